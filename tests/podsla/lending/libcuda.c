/*
 * Stands in for libcuda.so.1: the first cuInit of a process looks for the device and is remembered for good, and what it
 * opened stays open until the process ends.
 */
#include <fcntl.h>
#include <stdlib.h>

static int state = 3; /* CUDA_ERROR_NOT_INITIALIZED */

int cuInit(unsigned flags) {
    const char *path = getenv("STAND_IN_GPU");
    if (state == 3) state = path && open(path, O_RDONLY | O_CLOEXEC) >= 0 ? 0 : 100; /* CUDA_ERROR_NO_DEVICE */
    return state;
}
