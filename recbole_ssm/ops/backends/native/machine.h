/* All loops, compiled for one kind of machine: MACHINE with vectors of LANES floats, TOGETHER of which fill its registers. */
#include "vector.h"
#include "matrix.h"
#include "scan.h"
#include "ssd.h"
#include "conv1d.h"
#include "cross_entropy.h"
#include "dropout.h"
#include "gated_norm.h"
#include "feed_forward.h"
#include "step.h"
#undef MACHINE
#undef LANES
#undef TOGETHER
#undef vec
#undef ivec
#undef uvec
