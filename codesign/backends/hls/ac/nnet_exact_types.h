#ifndef NNET_EXACT_TYPES_H_
#define NNET_EXACT_TYPES_H_

#include "ac_channel.h"
#include "ac_fixed.h"

// The types of Catapult under the names that the exact steps use.

namespace nnet {
namespace exact {

static const ac_q_mode TRN = AC_TRN, RND = AC_RND, RND_CONV = AC_RND_CONV;
static const ac_o_mode WRAP = AC_WRAP, SAT = AC_SAT;

template <int W, int I, ac_q_mode Q = AC_TRN, ac_o_mode O = AC_WRAP> using fixed = ac_fixed<W, I, true, Q, O>;
template <int W, int I, ac_q_mode Q = AC_TRN, ac_o_mode O = AC_WRAP> using ufixed = ac_fixed<W, I, false, Q, O>;
template <class T> using stream = ac_channel<T>;

// The same whole number with the binary point elsewhere: multiplication by a power of two.
template <class res_T, class data_T> res_T move_point(data_T x) {
    ac_int<res_T::width, res_T::sign> whole = x.template slc<data_T::width>(0);
    res_T y = 0;
    y.set_slc(0, whole);
    return y;
}

} // namespace exact
} // namespace nnet

#endif
