"""Open Inference Protocol, version 2, with binary tensors: Triton's and KServe's clients.

Source: "Predict Protocol - Version 2" of KServe and "Binary Tensor Data Extension" of Triton. A
request is a JSON object. With the header ``Inference-Header-Content-Length`` it is a JSON object
of that many bytes, followed by the raw tensors in the order in which the object lists them.
"""

from trpo_deploy.serve.protocols.inference_v2.endpoints import InferenceV2

__all__ = ["InferenceV2"]
