/* The controller of the simulated robot in C: what robot_controller.py does, with POSIX sockets.
 *
 *     robot_controller PORT [SLOWER]
 *
 * It needs the files that trpo-deploy writes for Hopper-v5 with --target c. It has no heap. link.py
 * lists the messages.
 */

#define _POSIX_C_SOURCE 200809L

#include "hopper_v5_controller.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the messages are little-endian: swap the bytes of each double here"
#endif

enum {
    SENSORS = HOPPER_V5_OBSERVATION_SIZE,
    MOTORS = HOPPER_V5_ACTION_SIZE,
    MOST = SENSORS + 1, /* names in a list: one more than there should be is already wrong */
    LARGEST = 65536,    /* bytes of a message */
    NOTHING = -1,       /* no message has come in time */
    GONE = -2           /* the robot does not listen any more */
};

static const float TORQUE = 200.0f; /* N m at an action of 1: the unit in the file is "200 N m" */

static char message[LARGEST + 1];

static void fail(const char *text)
{
    fprintf(stderr, "robot_controller: %s\n", text);
    exit(1);
}

/* Wait for the next message. Returns its length, NOTHING or GONE. */
static ssize_t receive(int robot, double seconds)
{
    struct timeval patience;
    fd_set ready;
    patience.tv_sec = (time_t)seconds;
    patience.tv_usec = (suseconds_t)(1e6 * (seconds - (double)patience.tv_sec));
    FD_ZERO(&ready);
    FD_SET(robot, &ready);
    if (select(robot + 1, &ready, NULL, NULL, &patience) < 1) {
        return NOTHING;
    }
    const ssize_t length = recv(robot, message, LARGEST, 0);
    return length < 0 ? GONE : length;
}

/* Keep the last message that has arrived; wait if there is none yet. */
static ssize_t newest(int robot, double seconds)
{
    ssize_t length = receive(robot, seconds);
    ssize_t following = length;
    while (following >= 0) {
        following = receive(robot, 0.0);
        length = following == NOTHING ? length : following;
    }
    return length;
}

static bool is_bye(ssize_t length)
{
    return length == 3 && memcmp(message, "bye", 3) == 0;
}

/* Cut a line at its tabs. Returns the number of names. */
static int split(char *line, const char *names[MOST])
{
    int count = 0;
    for (char *name = strtok(line, "\t"); name != NULL && count < MOST; name = strtok(NULL, "\t")) {
        names[count++] = name;
    }
    return count;
}

/* End with the robot's names, which are not those of the policy. */
static void refuse(const char *expected, const char *const names[], int count)
{
    fprintf(stderr, "robot_controller: expected each name of %s once, received", expected);
    for (int i = 0; i < count; ++i) {
        fprintf(stderr, "%s %s", i > 0 ? "," : "", names[i]);
    }
    fprintf(stderr, "\n");
    exit(1);
}

/* Take names and period of the robot from its first message. Returns the period in seconds. */
static double begin(hopper_v5_controller *controller)
{
    static hopper_v5_controller_settings settings;
    const char *names[MOST];
    const char *period = strtok(message, "\n");
    char *sensors = strtok(NULL, "\n");
    char *motors = strtok(NULL, "\n");
    if (motors == NULL) {
        fail("expected a hello of three lines, received another message");
    }
    hopper_v5_controller_defaults(&settings);
    int count = split(sensors, names);
    if (count != SENSORS || !hopper_v5_controller_order_observation(&settings, names)) {
        refuse("hopper_v5_observation_names", names, count);
    }
    count = split(motors, names);
    if (count != MOTORS || !hopper_v5_controller_order_action(&settings, names)) {
        refuse("hopper_v5_action_names", names, count);
    }
    settings.period = strtod(period, NULL);
    settings.max_age = 2.5 * settings.period;
    for (int i = 0; i < MOTORS; ++i) {
        settings.safe_action[i] = 0.0f;
    }
    if (!hopper_v5_controller_init(controller, &settings)) {
        fprintf(stderr, "robot_controller: the robot's period is %s s, expected %g s\n", period,
            (double)HOPPER_V5_PERIOD_SECONDS);
        exit(1);
    }
    return settings.period;
}

/* Seconds of the robot's clock. */
static double robot_time(double slower)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((double)now.tv_sec + 1e-9 * (double)now.tv_nsec) / slower;
}

/* Act on an observation with its stamp before it. Returns whether the robot still listens. */
static bool answer(
    hopper_v5_controller *controller, int robot, double now, const double numbers[1 + SENSORS])
{
    float observation[SENSORS];
    float action[MOTORS];
    double torques[MOTORS];
    for (int i = 0; i < SENSORS; ++i) {
        observation[i] = (float)numbers[1 + i];
    }
    hopper_v5_controller_act(controller, now, numbers[0], observation, action);
    for (int i = 0; i < MOTORS; ++i) {
        torques[i] = (double)(TORQUE * action[i]);
    }
    return send(robot, torques, sizeof torques, 0) >= 0;
}

/* Answer each observation; act on the last one if none comes in time, since it may still be fresh
 * enough. */
static void answer_until_bye(
    hopper_v5_controller *controller, int robot, double period, double slower)
{
    double numbers[1 + SENSORS];
    bool has_numbers = false;
    for (;;) {
        const ssize_t length = newest(robot, 1.5 * slower * period);
        if (length == GONE || is_bye(length)) {
            return;
        }
        if (length == (ssize_t)sizeof numbers) {
            memcpy(numbers, message, sizeof numbers);
            has_numbers = true;
        }
        if (has_numbers && !answer(controller, robot, robot_time(slower), numbers)) {
            return;
        }
    }
}

/* Print what the controller counted as a line of JSON. */
static void print_stats(const hopper_v5_controller *controller)
{
    static const char *const causes[HOPPER_V5_FAULTS] = {
        [HOPPER_V5_NO_FAULT] = "none",
        [HOPPER_V5_LATE] = "late",
        [HOPPER_V5_STALE] = "stale",
        [HOPPER_V5_NOT_FINITE] = "not_finite",
        [HOPPER_V5_OUT_OF_RANGE] = "out_of_range",
        [HOPPER_V5_POLICY] = "policy",
    };
    printf("{\"calls\": %lu, \"faults\": {", (unsigned long)controller->calls);
    for (int i = HOPPER_V5_NO_FAULT + 1; i < HOPPER_V5_FAULTS; ++i) {
        printf("%s\"%s\": %lu", i > HOPPER_V5_NO_FAULT + 1 ? ", " : "", causes[i],
            (unsigned long)controller->faults[i]);
    }
    printf("}}\n");
}

static int bound_socket(long port)
{
    struct sockaddr_in own;
    const int bound = socket(AF_INET, SOCK_DGRAM, 0);
    memset(&own, 0, sizeof own);
    own.sin_family = AF_INET;
    own.sin_port = htons((uint16_t)port);
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bound < 0 || bind(bound, (const struct sockaddr *)&own, sizeof own) < 0) {
        fail("cannot bind the port: give another one");
    }
    return bound;
}

/* Wait for the hello of a robot, and listen to that robot alone. */
static void wait_for_hello(int robot)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    const ssize_t length =
        recvfrom(robot, message, LARGEST, 0, (struct sockaddr *)&address, &size);
    if (length < 0 || connect(robot, (const struct sockaddr *)&address, size) < 0) {
        fail("cannot receive from the robot");
    }
    message[length] = '\0';
}

int main(int count, char **arguments)
{
    static hopper_v5_controller controller;
    const long port = count > 1 ? strtol(arguments[1], NULL, 10) : 0;
    const double slower = count > 2 ? strtod(arguments[2], NULL) : 1.0;
    if (count > 3 || port < 1 || port > 65535 || !(slower > 0.0 && slower < 1e3)) {
        fail("expected PORT [SLOWER], such as: robot_controller 5005");
    }
    const int robot = bound_socket(port);
    wait_for_hello(robot);
    const double period = begin(&controller);
    if (send(robot, "ready", 5, 0) >= 0) {
        answer_until_bye(&controller, robot, period, slower);
    }
    close(robot);
    print_stats(&controller);
    return 0;
}
