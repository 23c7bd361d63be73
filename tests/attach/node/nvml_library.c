/* Stands for the driver's libnvidia-ml.so.1: a whole GPU, one in MIG mode with two devices, one that is lost. */
#include <stdio.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, LOST = 15 };
enum { WHOLE = 0, PARTED = 1, BUS = 2, GPUS = 3, FIRST_MIG = 10, MIG_PLACES = 7 };

int nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = GPUS; return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index == BUS) return LOST;
    *device = (void *)(long)(index + 1);
    return OK;
}

int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later) {
    if ((long)device - 1 != PARTED) return NOT_SUPPORTED; /* as GPUs before A100 say */
    *now = *later = 1;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { (void)device; *count = MIG_PLACES; return OK; }

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **mig) {
    (void)device;
    if (index % 2 || index > 2) return NOT_FOUND;
    *mig = (void *)(long)(FIRST_MIG + index);
    return OK;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size) {
    snprintf(uuid, size, (long)device < FIRST_MIG ? "GPU-%ld" : "MIG-%ld", (long)device);
    return OK;
}

int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) { *minor = 4 - (unsigned)(long)device; return OK; }
int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id) { *id = (unsigned)(long)device - FIRST_MIG + 1; return OK; }
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id) { (void)device; *id = 0; return OK; }
const char *nvmlErrorString(int result) { return result == LOST ? "GPU is lost" : "another error"; }
