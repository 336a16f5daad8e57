#include <stdbool.h>

/* Whether memory is overwritten with zeros as it is given back, so that no copy of a secret stays behind in it.
   Off at the start of the process; may be set from any thread. */
void cwipe_set(bool wipes);
