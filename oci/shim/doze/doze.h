/* What both sides of this package know. */
#define DOZE_ENV "_CRIRUNTIME_DOZE" /* the descriptors to wait for, in decimal, between spaces */
#define DOZE_MAX 256
