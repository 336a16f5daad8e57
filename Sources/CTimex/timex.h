// Whether the system's clock is kept right: Swift's Glibc leaves this header out.
#include <sys/timex.h>
