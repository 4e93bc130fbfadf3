"""The files ``NAME_controller.h`` and ``NAME_controller.c``: a policy in a robot's control loop.

They do what :class:`~trpo_deploy.runtime.controller.Controller` does; both run the same table of
cases. In the templates, ``@name@`` is the policy's name, ``@NAME@`` the same in capitals, and
``@real@`` the type of an observation's numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from trpo_deploy.export.targets.c.interface import Interface
from trpo_deploy.export.targets.c.literals import initializer, string
from trpo_deploy.runtime.observation_range import observation_ranges
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import BoxSpace


def controller_files(spec: PolicySpec, interface: Interface) -> dict[str, bytes | str]:
    """The files by name; none for observations with keys, and for numbers that are not real."""
    observation, *others = interface.observations
    action = interface.action
    is_real = observation.ctype in ("float", "double") and action.ctype == "float"
    if interface.has_keys or others or not is_real or not (observation.shape and action.shape):
        return {}
    values = _values(spec, interface)
    texts = {"h": _HEADER, "c": _SOURCE}
    return {
        f"{interface.name}_controller.{ending}": _filled(text, values)
        for ending, text in texts.items()
    }


def _values(spec: PolicySpec, interface: Interface) -> dict[str, str]:
    """What stands for each name between ``@`` in the templates; empty to leave a block out."""
    observation, action = interface.observations[0], interface.action
    ((key, (low, high)),) = observation_ranges(spec, {}).items()
    space = spec.action_space
    assert isinstance(space, BoxSpace)
    action_low, action_high = space.inner_bounds
    unknown = np.full(action.size, np.inf)  # the largest number, which the bounds refuse
    safe = unknown if spec.safe_action is None else spec.safe_action
    return {
        "name": interface.name,
        "NAME": interface.macro,
        "real": observation.ctype,
        "period": repr(spec.period or 0.0),
        "low": initializer(low, observation.ctype),
        "high": initializer(high, observation.ctype),
        "action_low": initializer(action_low, "float"),
        "action_high": initializer(action_high, "float"),
        "safe": initializer(safe, "float"),
        "no_safe": "yes" if spec.safe_action is None else "",
        "state": "yes" if interface.states else "",
        "no_state": "" if interface.states else "yes",
        "observation_names": _names(spec.observation_components.get(key, ())),
        "action_names": _names(spec.action_components),
    }


def _names(components: Sequence[Component]) -> str:
    """A table of names with its size, as an initialised array without its own name."""
    if not components:
        return ""
    longest = 1 + max(len(each.name.encode()) for each in components)
    rows = ",\n    ".join(string(each.name) for each in components)
    return f"[{len(components)}][{longest}] = {{\n    {rows}\n}}"


def _filled(template: str, values: Mapping[str, str]) -> str:
    """The template with its values; ``@if KEY@ ... @end@`` only if the value is not empty."""
    text = re.sub(
        r"@if (\w+)@\n(.*?)@end@\n",
        lambda block: block[2] if values[block[1]] else "",
        template,
        flags=re.DOTALL,
    )
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], text)


_HEADER = """\
/* @name@ in the control loop of a robot: names, time, and what to do when something is wrong.
 * Written by trpo-deploy. Compile with @name@.c and @name@_controller.c. No heap, no static memory.
 *
 * All arrays have the robot's order. Times are in seconds of one clock of yours, which does not go
 * back. It does not matter where it begins.
 */

#ifndef @NAME@_CONTROLLER_H
#define @NAME@_CONTROLLER_H

#include "@name@.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why a call got no new action from the policy. The first that applies counts. */
typedef enum {
    @NAME@_NO_FAULT,
    @NAME@_LATE,         /* the call came more than max_delay after its time */
    @NAME@_STALE,        /* the observation is not within max_age, or a newer one was used */
    @NAME@_NOT_FINITE,   /* a number is NaN or infinite */
    @NAME@_OUT_OF_RANGE, /* a number is not between low and high */
    @NAME@_POLICY,       /* the network has overflowed */
    @NAME@_FAULTS        /* how many there are, with none */
} @name@_fault;

typedef struct {
    double period;           /* between two calls; the policy's, if that is known */
    double period_tolerance; /* largest relative difference between both */
    double max_age;          /* of an observation; below 0, stamps are ignored */
    double max_delay;        /* of a call after its time; below 0, one period */
    double max_hold;         /* after the last usable call; below 0, ten periods */
    bool safe_at_once;       /* the safe action in each fault, instead of the last one */
    float safe_action[@NAME@_ACTION_SIZE];
    float rate_limit[@NAME@_ACTION_SIZE]; /* units per second; 0: none */
    float blend_in[@NAME@_ACTION_SIZE];   /* from the safe action to the policy's; 0: none */
    @real@ low[@NAME@_OBSERVATION_SIZE];    /* smallest usable numbers, in the file's order */
    @real@ high[@NAME@_OBSERVATION_SIZE];
    int32_t observation_position[@NAME@_OBSERVATION_SIZE]; /* where the file's numbers are */
    int32_t action_position[@NAME@_ACTION_SIZE];
} @name@_controller_settings;

/* One for each robot. Read calls and faults; leave the rest alone. */
typedef struct {
    uint32_t calls;
    uint32_t faults[@NAME@_FAULTS];
    @name@_controller_settings settings;
@if state@
    @name@_state state;
@end@
    float last[@NAME@_ACTION_SIZE];
    float start[@NAME@_ACTION_SIZE];
    uint32_t blended;
    bool blends;
    bool has_previous;
    bool has_newest;
    bool has_good;
    double previous;
    double newest;
    double good;
} @name@_controller;

/* The settings of the file: its order, period, ranges and safe action. */
void @name@_controller_defaults(@name@_controller_settings *settings);

@if observation_names@
/* Set the robot's order of the observation. False if the names are not the file's, each once. */
bool @name@_controller_order_observation(
    @name@_controller_settings *settings, const char *const names[@NAME@_OBSERVATION_SIZE]);

/* Set the range of a number, inclusive. False if the file has no such name. */
bool @name@_controller_range(
    @name@_controller_settings *settings, const char *name, @real@ low, @real@ high);

@end@
@if action_names@
/* Set the robot's order of the action, before its safe action, limits and times. False if the names
 * are not the file's, each once. */
bool @name@_controller_order_action(
    @name@_controller_settings *settings, const char *const names[@NAME@_ACTION_SIZE]);

@end@
/* Begin. False if the period is not the policy's, the safe action is unknown or not in the action's
 * bounds, or another setting is not usable, such as NaN; do not run the loop then. */
bool @name@_controller_init(
    @name@_controller *controller, const @name@_controller_settings *settings);

/* Start an episode from the robot's current action; NULL for the safe one. Counts stay. False, and
 * nothing changes, if the action is not in the action's bounds. */
bool @name@_controller_reset(
    @name@_controller *controller, const float current[@NAME@_ACTION_SIZE]);

/* The action for the next observation: always a usable one. NaN as the stamp is an unknown age. */
@name@_fault @name@_controller_act(
    @name@_controller *controller, double now, double stamp,
    const @real@ observation[@NAME@_OBSERVATION_SIZE], float action[@NAME@_ACTION_SIZE]);

#ifdef __cplusplus
}
#endif

#endif
"""

_SOURCE = """\
/* Written by trpo-deploy; see @name@_controller.h. */
#include "@name@_controller.h"

#include <stddef.h>
#include <string.h>

static const @real@ file_low[@NAME@_OBSERVATION_SIZE] = @low@;

static const @real@ file_high[@NAME@_OBSERVATION_SIZE] = @high@;

static const float action_low[@NAME@_ACTION_SIZE] = @action_low@;

static const float action_high[@NAME@_ACTION_SIZE] = @action_high@;

static const float file_safe[@NAME@_ACTION_SIZE] = @safe@;

@if observation_names@
static const char observation_names@observation_names@;

@end@
@if action_names@
static const char action_names@action_names@;

@end@
/* Tests of the bits stay with -ffast-math, which removes tests such as x != x. */
static uint64_t size_bits(double x)
{
    union {
        double number;
        uint64_t bits;
    } both;
    both.number = x;
    return both.bits & 0x7fffffffffffffffu;
}

static bool is_finite(double x)
{
    return size_bits(x) < 0x7ff0000000000000u;
}

static bool is_nan(double x)
{
    return size_bits(x) > 0x7ff0000000000000u;
}

void @name@_controller_defaults(@name@_controller_settings *settings)
{
    memset(settings, 0, sizeof *settings);
    settings->period = @period@;
    settings->period_tolerance = 0.01;
    settings->max_age = -1.0;
    settings->max_delay = -1.0;
    settings->max_hold = -1.0;
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        settings->safe_action[i] = file_safe[i];
        settings->action_position[i] = i;
    }
    for (int32_t i = 0; i < @NAME@_OBSERVATION_SIZE; ++i) {
        settings->low[i] = file_low[i];
        settings->high[i] = file_high[i];
        settings->observation_position[i] = i;
    }
}

@if observation_names@
bool @name@_controller_order_observation(
    @name@_controller_settings *settings, const char *const names[@NAME@_OBSERVATION_SIZE])
{
    for (int32_t i = 0; i < @NAME@_OBSERVATION_SIZE; ++i) {
        int32_t found = 0;
        for (int32_t j = 0; j < @NAME@_OBSERVATION_SIZE; ++j) {
            if (strcmp(names[j], observation_names[i]) == 0) {
                settings->observation_position[i] = j;
                ++found;
            }
        }
        if (found != 1) {
            return false;
        }
    }
    return true;
}

bool @name@_controller_range(
    @name@_controller_settings *settings, const char *name, @real@ low, @real@ high)
{
    for (int32_t i = 0; i < @NAME@_OBSERVATION_SIZE; ++i) {
        if (strcmp(name, observation_names[i]) == 0) {
            settings->low[i] = low;
            settings->high[i] = high;
            return low <= high;
        }
    }
    return false;
}

@end@
@if action_names@
bool @name@_controller_order_action(
    @name@_controller_settings *settings, const char *const names[@NAME@_ACTION_SIZE])
{
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        int32_t found = 0;
        for (int32_t j = 0; j < @NAME@_ACTION_SIZE; ++j) {
            if (strcmp(names[j], action_names[i]) == 0) {
                settings->action_position[i] = j;
                settings->safe_action[j] = file_safe[i];
                ++found;
            }
        }
        if (found != 1) {
            return false;
        }
    }
    return true;
}

@end@
static bool is_in_bounds(
    const @name@_controller_settings *settings, const float action[@NAME@_ACTION_SIZE])
{
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        const float number = action[settings->action_position[i]];
        if (!is_finite((double)number) || number < action_low[i] || number > action_high[i]) {
            return false;
        }
    }
    return true;
}

/* Whether positions are those of an order: each once. */
static bool is_order(const int32_t *positions, int32_t size)
{
    for (int32_t i = 0; i < size; ++i) {
        if (positions[i] < 0 || positions[i] >= size) {
            return false;
        }
        for (int32_t j = 0; j < i; ++j) {
            if (positions[j] == positions[i]) {
                return false;
            }
        }
    }
    return true;
}

static bool fits(const @name@_controller_settings *settings)
{
    const double trained = @period@;
    const double difference = settings->period - trained;
    const double largest = settings->period_tolerance * trained;
    if (!is_finite(settings->period) || settings->period <= 0.0) {
        return false;
    }
    if (is_nan(settings->period_tolerance) || is_nan(settings->max_age)
        || is_nan(settings->max_delay) || is_nan(settings->max_hold)) {
        return false;
    }
    if (trained > 0.0 && (difference > largest || -difference > largest)) {
        return false;
    }
    if (!is_order(settings->observation_position, @NAME@_OBSERVATION_SIZE)
        || !is_order(settings->action_position, @NAME@_ACTION_SIZE)) {
        return false;
    }
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        if (is_nan((double)settings->rate_limit[i]) || settings->rate_limit[i] < 0.0f) {
            return false;
        }
        if (!is_finite((double)settings->blend_in[i]) || settings->blend_in[i] < 0.0f) {
            return false;
        }
@if no_safe@
        if (settings->safe_action[settings->action_position[i]] >= file_safe[i]) {
            return false; /* the file knows no safe action, and none was set */
        }
@end@
    }
    for (int32_t i = 0; i < @NAME@_OBSERVATION_SIZE; ++i) {
        if (is_nan((double)settings->low[i]) || is_nan((double)settings->high[i])
            || settings->low[i] > settings->high[i]) {
            return false;
        }
    }
    return true;
}

bool @name@_controller_init(
    @name@_controller *controller, const @name@_controller_settings *settings)
{
    memset(controller, 0, sizeof *controller);
    controller->settings = *settings;
    if (settings->max_delay < 0.0) {
        controller->settings.max_delay = settings->period;
    }
    if (settings->max_hold < 0.0) {
        controller->settings.max_hold = 10.0 * settings->period;
    }
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        controller->blends = controller->blends || settings->blend_in[i] > 0.0f;
    }
    return fits(settings) && @name@_controller_reset(controller, NULL);
}

static void blend_again(@name@_controller *controller)
{
    memcpy(controller->start, controller->last, sizeof controller->start);
    controller->blended = 0;
}

bool @name@_controller_reset(
    @name@_controller *controller, const float current[@NAME@_ACTION_SIZE])
{
    const float *from = current != NULL ? current : controller->settings.safe_action;
    if (!is_in_bounds(&controller->settings, from)) {
        return false;
    }
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        controller->last[i] = from[i];
    }
@if state@
    @name@_reset(&controller->state);
@end@
    controller->has_previous = false;
    controller->has_newest = false;
    controller->has_good = false;
    blend_again(controller);
    return true;
}

/* Set the action, with rate limits. */
static void give(@name@_controller *controller, const float action[@NAME@_ACTION_SIZE])
{
    const @name@_controller_settings *settings = &controller->settings;
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        float next = action[i];
        if (settings->rate_limit[i] > 0.0f) {
            const float step = (float)(settings->period * (double)settings->rate_limit[i]);
            const float low = controller->last[i] - step;
            const float high = controller->last[i] + step;
            next = next < low ? low : next > high ? high : next;
        }
        controller->last[i] = next;
    }
}

/* Mix the policy's action, in the robot's order, with the one at the start. */
static void blend(@name@_controller *controller, float action[@NAME@_ACTION_SIZE])
{
    const @name@_controller_settings *settings = &controller->settings;
    const double passed = (double)(controller->blended + 1u) * settings->period;
    bool is_over = true;
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        if (passed < (double)settings->blend_in[i]) {
            is_over = false;
        }
    }
    if (is_over) {
        return;
    }
    ++controller->blended;
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        const int32_t j = settings->action_position[i];
        if (passed < (double)settings->blend_in[j]) {
            const float weight = (float)(passed / (double)settings->blend_in[j]);
            const float mixed = weight * action[j] + (1.0f - weight) * controller->start[j];
            action[j] = mixed < action_low[i] ? action_low[i] : mixed;
            action[j] = action[j] > action_high[i] ? action_high[i] : action[j];
        }
    }
}

static @name@_fault punctuality(
    @name@_controller *controller, double now, double stamp, double interval)
{
    const @name@_controller_settings *settings = &controller->settings;
    const double age = now - stamp;
    if (interval > settings->period + settings->max_delay) {
        return @NAME@_LATE;
    }
    if (settings->max_age < 0.0) {
        return @NAME@_NO_FAULT;
    }
    if (!is_finite(age) || age > settings->max_age || -age > settings->max_age) {
        return @NAME@_STALE;
    }
    if (controller->has_newest && stamp < controller->newest) {
        return @NAME@_STALE;
    }
    return @NAME@_NO_FAULT;
}

/* Check the observation and run the policy. */
static @name@_fault follow(
    @name@_controller *controller, const @real@ observation[@NAME@_OBSERVATION_SIZE])
{
    const @name@_controller_settings *settings = &controller->settings;
    @real@ ordered[@NAME@_OBSERVATION_SIZE];
    float computed[@NAME@_ACTION_SIZE];
    float action[@NAME@_ACTION_SIZE];
    bool is_in_range = true;
    for (int32_t i = 0; i < @NAME@_OBSERVATION_SIZE; ++i) {
        ordered[i] = observation[settings->observation_position[i]];
        if (!is_finite((double)ordered[i])) {
            return @NAME@_NOT_FINITE;
        }
        if (ordered[i] < settings->low[i] || ordered[i] > settings->high[i]) {
            is_in_range = false;
        }
    }
    if (!is_in_range) {
        return @NAME@_OUT_OF_RANGE;
    }
@if state@
    if (!@name@_act(&controller->state, ordered, computed)) {
        return @NAME@_POLICY;
    }
@end@
@if no_state@
    if (!@name@_act(ordered, computed)) {
        return @NAME@_POLICY;
    }
@end@
    for (int32_t i = 0; i < @NAME@_ACTION_SIZE; ++i) {
        action[settings->action_position[i]] = computed[i];
    }
    if (controller->blends) {
        blend(controller, action);
    }
    give(controller, action);
    return @NAME@_NO_FAULT;
}

@name@_fault @name@_controller_act(
    @name@_controller *controller, double now, double stamp,
    const @real@ observation[@NAME@_OBSERVATION_SIZE], float action[@NAME@_ACTION_SIZE])
{
    const @name@_controller_settings *settings = &controller->settings;
    const double interval = controller->has_previous ? now - controller->previous : 0.0;
    const double held = controller->has_good ? now - controller->good : 0.0;
    @name@_fault fault = punctuality(controller, now, stamp, interval);
    controller->previous = now;
    controller->has_previous = true;
    if (fault == @NAME@_NO_FAULT) {
        fault = follow(controller, observation);
    }
    if (fault == @NAME@_NO_FAULT) {
        controller->good = now;
        controller->has_good = true;
        if (settings->max_age >= 0.0) {
            controller->newest = stamp;
            controller->has_newest = true;
        }
    } else if (settings->safe_at_once || held > settings->max_hold) {
        give(controller, settings->safe_action);
        blend_again(controller);
    }
    ++controller->calls;
    ++controller->faults[fault];
    memcpy(action, controller->last, sizeof controller->last);
    return fault;
}
"""
