# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The functions of step_numpy, compiled; documented there."""

import numpy as np

cimport numpy as cnp
from libc.math cimport erff, expf, isfinite, log1pf, sqrt

cnp.import_array()

ACTIVATIONS = (
    "Tanh", "ReLU", "Sigmoid", "SiLU", "GELU", "GELU, tanh", "Softplus", "Mish", "Hardswish"
)
"""Names of the supported activations."""

cdef class _Layer:
    """One layer and the memory for its outputs."""

    cdef cnp.ndarray weight, bias, values
    cdef str activation
    cdef bint is_norm
    cdef double eps

    def __init__(self, layer, Py_ssize_t n_envs):
        self.weight = np.array(layer.weight, np.float32, order="C")
        self.bias = np.array(layer.bias, np.float32)
        self.values = np.empty((n_envs, len(layer.bias)), np.float32)
        self.activation = "" if layer.activation is None else layer.activation.name
        self.is_norm = layer.norm_eps is not None
        self.eps = layer.norm_eps if self.is_norm else 0.0

    cdef void apply(self, const float *x) noexcept:
        """Compute the values from ``x``, ``(n_envs, inputs)``."""
        if self.is_norm:
            self.normalize(x)
        else:
            self.multiply(x)
        self.activate(<float *> cnp.PyArray_DATA(self.values), cnp.PyArray_SIZE(self.values))

    cdef void normalize(self, const float *x) noexcept:
        """A layer norm."""
        cdef const float *w = <const float *> cnp.PyArray_DATA(self.weight)
        cdef const float *b = <const float *> cnp.PyArray_DATA(self.bias)
        cdef float *y = <float *> cnp.PyArray_DATA(self.values)
        cdef Py_ssize_t width = cnp.PyArray_SIZE(self.bias)
        cdef Py_ssize_t row, j
        cdef double mean, variance
        cdef float centre, scale
        for row in range(cnp.PyArray_DIM(self.values, 0)):
            mean = variance = 0
            for j in range(width):
                mean += x[j]
            mean /= width
            for j in range(width):
                variance += (x[j] - mean) * (x[j] - mean)
            centre = <float> mean
            scale = <float> (1 / sqrt(variance / width + self.eps))
            for j in range(width):
                y[j] = (x[j] - centre) * scale * w[j] + b[j]
            x += width
            y += width

    cdef void multiply(self, const float *x) noexcept:
        """A linear layer."""
        cdef const float *b = <const float *> cnp.PyArray_DATA(self.bias)
        cdef float *y = <float *> cnp.PyArray_DATA(self.values)
        cdef const float *w
        cdef const float *w1
        cdef const float *w2
        cdef const float *w3
        cdef Py_ssize_t inputs = cnp.PyArray_DIM(self.weight, 0)
        cdef Py_ssize_t outputs = cnp.PyArray_DIM(self.weight, 1)
        cdef Py_ssize_t row, i, j
        for row in range(cnp.PyArray_DIM(self.values, 0)):
            w = <const float *> cnp.PyArray_DATA(self.weight)
            for j in range(outputs):
                y[j] = b[j]
            # Four inputs at a time: the sums are read and written a quarter as often. Compilers
            # vectorize the inner loops.
            for i in range(0, inputs - 3, 4):
                w1 = w + outputs
                w2 = w1 + outputs
                w3 = w2 + outputs
                for j in range(outputs):
                    y[j] += x[i] * w[j] + x[i + 1] * w1[j] + x[i + 2] * w2[j] + x[i + 3] * w3[j]
                w = w3 + outputs
            for i in range(inputs - inputs % 4, inputs):
                for j in range(outputs):
                    y[j] += x[i] * w[j]
                w += outputs
            x += inputs
            y += outputs

    cdef void activate(self, float *y, Py_ssize_t size) noexcept:
        cdef Py_ssize_t i
        if self.activation == "Tanh":
            for i in range(size):
                y[i] = <float> tanh(y[i])
        elif self.activation == "ReLU":
            for i in range(size):
                y[i] = 0 if y[i] < 0 else y[i]
        elif self.activation == "Sigmoid":
            for i in range(size):
                y[i] = <float> (0.5 + 0.5 * tanh(0.5 * y[i]))
        elif self.activation == "SiLU":
            for i in range(size):
                y[i] = y[i] / (1 + expf(-y[i]))
        elif self.activation == "GELU":
            for i in range(size):
                y[i] = 0.5 * y[i] * (1 + erff(ROOT_HALF * y[i]))
        elif self.activation == "GELU, tanh":
            for i in range(size):
                y[i] = y[i] / (1 + expf(-TWO_ROOT * (y[i] + CUBIC * y[i] * y[i] * y[i])))
        elif self.activation == "Softplus":
            for i in range(size):
                y[i] = y[i] if y[i] > 20 else log1pf(expf(y[i]))
        elif self.activation == "Mish":
            for i in range(size):
                y[i] = mish(y[i])
        elif self.activation == "Hardswish":
            for i in range(size):
                y[i] = y[i] * min(max(y[i] + 3, 0), 6) / 6


cdef float ROOT_HALF = 0.7071067811865476
cdef float TWO_ROOT = 1.5957691216057308  # twice the root of 2 / pi
cdef float CUBIC = 0.044715


cdef inline float mish(float z) noexcept nogil:
    """``z tanh(log(1 + e^z))``, where the tanh is n / (n + 2) with n = e^z (e^z + 2)."""
    cdef float power, n
    if z > 20:
        return z
    power = expf(z)
    n = power * (power + 2)
    return z * (n / (n + 2))


cdef inline double tanh(double z) noexcept nogil:
    """Rational approximation with a relative error of 2e-8, a third of float32's rounding.

    Numerator and denominator are polynomials in the square of z. Beyond 9 the value is constant,
    half a rounding from 1.
    """
    cdef double x = -9.0 if z < -9.0 else (9.0 if z > 9.0 else z)
    cdef double u = x * x
    cdef double above = 9.99999980e-01 + u * (
        1.33810243e-01 + u * (3.49558656e-03 + u * (2.06090571e-05 + u * 1.33546281e-08))
    )
    cdef double below = 1.0 + u * (
        4.67143399e-01 + u * (2.58769763e-02 + u * (3.28563227e-04 + u * 7.77654430e-07))
    )
    return x * above / below


cdef class DenseForward:
    """See ``step_numpy.DenseForward``."""

    cdef list layers
    cdef Py_ssize_t size

    def __init__(self, layers, Py_ssize_t n_envs):
        inputs = len(layers[0].weight)
        self.layers = []
        self.size = n_envs * inputs
        for layer in layers:
            outputs = len(layer.bias)
            expected = (inputs, outputs) if layer.norm_eps is None else (inputs,)
            if layer.weight.shape != expected or (layer.norm_eps is not None and outputs != inputs):
                raise ValueError(f"weight of shape {layer.weight.shape}, expected {expected}")
            self.layers.append(_Layer(layer, n_envs))
            inputs = outputs

    def __call__(self, observations):
        cdef cnp.ndarray latent = contiguous(observations, cnp.NPY_FLOAT32)
        cdef cnp.ndarray output = latent
        cdef _Layer layer
        check_size(latent, self.size)
        for layer in self.layers:
            latent = output
            layer.apply(<const float *> cnp.PyArray_DATA(latent))
            output = layer.values
        return latent, output


def forward_pass(layers, n_envs):
    """See ``step_numpy.forward_pass``."""
    return DenseForward(layers, n_envs)


def explored(mean, noise, deviation, low, high):
    """See ``step_numpy.explored``."""
    cdef cnp.ndarray means = contiguous(mean, cnp.NPY_FLOAT32)
    cdef cnp.ndarray noises = contiguous(noise, cnp.NPY_FLOAT32)
    cdef cnp.ndarray deviations = contiguous(deviation, cnp.NPY_FLOAT32)
    cdef cnp.ndarray lows = contiguous(low, cnp.NPY_FLOAT32)
    cdef cnp.ndarray highs = contiguous(high, cnp.NPY_FLOAT32)
    cdef cnp.ndarray actions = empty(lows, cnp.NPY_FLOAT32)
    cdef cnp.ndarray clipped = empty(lows, cnp.NPY_FLOAT32)
    cdef const float *m = <const float *> cnp.PyArray_DATA(means)
    cdef const float *z = <const float *> cnp.PyArray_DATA(noises)
    cdef const float *s = <const float *> cnp.PyArray_DATA(deviations)
    cdef const float *least = <const float *> cnp.PyArray_DATA(lows)
    cdef const float *most = <const float *> cnp.PyArray_DATA(highs)
    cdef float *a = <float *> cnp.PyArray_DATA(actions)
    cdef float *c = <float *> cnp.PyArray_DATA(clipped)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(lows)
    cdef Py_ssize_t i
    cdef float value
    check_size(means, size)
    check_size(noises, size)
    check_size(deviations, size)
    check_size(highs, size)
    for i in range(size):
        value = a[i] = m[i] + z[i] * s[i]
        value = least[i] if value < least[i] else value
        c[i] = most[i] if value > most[i] else value
    return actions, clipped


def updated_moments(batch, mean, var, double count):
    """See ``step_numpy.updated_moments``."""
    cdef cnp.ndarray rows = contiguous(batch, cnp.NPY_FLOAT64)
    cdef cnp.ndarray means = contiguous(mean, cnp.NPY_FLOAT64)
    cdef cnp.ndarray variances = contiguous(var, cnp.NPY_FLOAT64)
    cdef cnp.ndarray new_mean = empty(means, cnp.NPY_FLOAT64)
    cdef cnp.ndarray new_var = empty(means, cnp.NPY_FLOAT64)
    cdef const double *x = <const double *> cnp.PyArray_DATA(rows)
    cdef const double *m = <const double *> cnp.PyArray_DATA(means)
    cdef const double *v = <const double *> cnp.PyArray_DATA(variances)
    cdef double *moved = <double *> cnp.PyArray_DATA(new_mean)
    cdef double *squares = <double *> cnp.PyArray_DATA(new_var)
    cdef Py_ssize_t n = len(rows)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(means)
    cdef Py_ssize_t row, j
    cdef double distance, step
    cdef double total = count + n
    check_size(variances, size)
    check_size(rows, n * size)
    for j in range(size):
        moved[j] = 0
        squares[j] = v[j] * count
    for row in range(n):
        for j in range(size):
            distance = x[j] - m[j]
            moved[j] += distance
            squares[j] += distance * distance
        x += size
    for j in range(size):
        step = moved[j] / total
        squares[j] = (squares[j] - moved[j] * step) / total
        moved[j] = m[j] + step
    return new_mean, new_var


def normalized(batch, mean, var, double epsilon, double limit):
    """See ``step_numpy.normalized``."""
    cdef cnp.ndarray rows = contiguous(batch, cnp.NPY_FLOAT64)
    cdef cnp.ndarray means = contiguous(mean, cnp.NPY_FLOAT64)
    cdef cnp.ndarray variances = contiguous(var, cnp.NPY_FLOAT64)
    cdef cnp.ndarray result = empty(rows, cnp.NPY_FLOAT32)
    cdef const double *x = <const double *> cnp.PyArray_DATA(rows)
    cdef const double *m = <const double *> cnp.PyArray_DATA(means)
    cdef const double *v = <const double *> cnp.PyArray_DATA(variances)
    cdef float *y = <float *> cnp.PyArray_DATA(result)
    cdef Py_ssize_t n = len(rows)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(means)
    cdef Py_ssize_t row, j
    cdef double value
    check_size(variances, size)
    check_size(rows, n * size)
    for row in range(n):
        for j in range(size):
            value = (x[j] - m[j]) / sqrt(v[j] + epsilon)
            value = -limit if value < -limit else value
            y[j] = <float> (limit if value > limit else value)
        x += size
        y += size
    return result


def discounted(returns, double gamma, rewards):
    """See ``step_numpy.discounted``."""
    cdef cnp.ndarray before = contiguous(returns, cnp.NPY_FLOAT64)
    cdef cnp.ndarray added = contiguous(rewards, cnp.NPY_FLOAT64)
    cdef cnp.ndarray result = empty(before, cnp.NPY_FLOAT64)
    cdef const double *x = <const double *> cnp.PyArray_DATA(before)
    cdef const double *r = <const double *> cnp.PyArray_DATA(added)
    cdef double *y = <double *> cnp.PyArray_DATA(result)
    cdef Py_ssize_t size = cnp.PyArray_SIZE(before)
    cdef Py_ssize_t i
    check_size(added, size)
    for i in range(size):
        y[i] = x[i] * gamma + r[i]
    return result


def finite(values):
    """See ``step_numpy.finite``."""
    cdef cnp.ndarray numbers = values if isinstance(values, np.ndarray) else np.asarray(values)
    cdef const float *y
    cdef const double *x
    cdef Py_ssize_t i
    if cnp.PyArray_TYPE(numbers) == cnp.NPY_FLOAT32:  # of actions and logits, at each step
        numbers = contiguous(numbers, cnp.NPY_FLOAT32)
        y = <const float *> cnp.PyArray_DATA(numbers)
        for i in range(cnp.PyArray_SIZE(numbers)):
            if not isfinite(y[i]):
                return False
        return True
    numbers = contiguous(numbers, cnp.NPY_FLOAT64)
    x = <const double *> cnp.PyArray_DATA(numbers)
    for i in range(cnp.PyArray_SIZE(numbers)):
        if not isfinite(<float> x[i]):
            return False
    return True


cdef cnp.ndarray contiguous(values, int dtype):
    """The array itself if it is C-contiguous and of this type, else a copy."""
    cdef int needs = cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST
    return cnp.PyArray_FROMANY(values, dtype, 0, 0, needs)


cdef cnp.ndarray empty(cnp.ndarray like, int dtype):
    return cnp.PyArray_SimpleNew(cnp.PyArray_NDIM(like), cnp.PyArray_DIMS(like), dtype)


cdef int check_size(cnp.ndarray array, Py_ssize_t size) except -1:
    """Refuse arrays of another size: the loops check no bounds."""
    if cnp.PyArray_SIZE(array) != size:
        raise ValueError(f"array of shape {np.shape(array)}, expected {size} numbers")
    return 0
