/*
 * Stands in for libcuda.so.1: the first cuInit of a process looks for the device and is remembered for good, and what it
 * opened stays open until the process ends.
 *
 * The other stand-in, `cuda` in tests/attach/node/workload.c, is a verb of the static program that containers run, in which
 * no library could be loaded; this one is a library, for podsla.gpu knows CUDA by the library that a process has loaded.
 */
#include <fcntl.h>
#include <stdlib.h>

static int state = 3; /* CUDA_ERROR_NOT_INITIALIZED */

int cuInit(unsigned flags) {
    const char *path = getenv("STAND_IN_GPU");
    if (state == 3) state = path && open(path, O_RDONLY | O_CLOEXEC) >= 0 ? 0 : 100; /* CUDA_ERROR_NO_DEVICE */
    return state;
}
