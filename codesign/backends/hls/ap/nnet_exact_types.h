#ifndef NNET_EXACT_TYPES_H_
#define NNET_EXACT_TYPES_H_

#include "ap_fixed.h"
#include "hls_stream.h"

// The types of Vitis HLS and Vivado HLS under the names that the exact steps use.

namespace nnet {
namespace exact {

static const ap_q_mode TRN = AP_TRN, RND = AP_RND, RND_CONV = AP_RND_CONV;
static const ap_o_mode WRAP = AP_WRAP, SAT = AP_SAT;

template <int W, int I, ap_q_mode Q = AP_TRN, ap_o_mode O = AP_WRAP> using fixed = ap_fixed<W, I, Q, O>;
template <int W, int I, ap_q_mode Q = AP_TRN, ap_o_mode O = AP_WRAP> using ufixed = ap_ufixed<W, I, Q, O>;
template <class T> using stream = hls::stream<T>;

// The same bits with the binary point elsewhere: multiplication by a power of two.
template <class res_T, class data_T> res_T move_point(data_T x) {
    #pragma HLS INLINE
    res_T y;
    y.range() = x.range();
    return y;
}

} // namespace exact
} // namespace nnet

#endif
