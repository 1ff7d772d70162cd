#ifndef NNET_EXACT_H_
#define NNET_EXACT_H_

#include "nnet_common.h"
#include "nnet_dense.h"
#include "nnet_exact_stream.h"
#include "nnet_exact_types.h"

// Steps of an integer network that hls4ml has no exact layer for. Tensors are flat arrays in row-major order; every
// result type holds every result, so that bits are lost nowhere but in the formats that `quantize` names. All functions
// are wires and operators of the function that calls them, which is pipelined as a whole.

namespace nnet {
namespace exact {

template <class data_T, class res_T, typename CONFIG_T> void quantize(data_T data[CONFIG_T::n_out], res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res[i] = CONFIG_T::template quantize<data_T, res_T>(i, data[i]);
    }
}

template <class data_T, class res_T, typename CONFIG_T>
void affine(data_T data[CONFIG_T::n_out], res_T res[CONFIG_T::n_out], typename CONFIG_T::scale_t *scale,
            typename CONFIG_T::offset_t *offset) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res[i] = data[i] * scale[CONFIG_T::scale_index(i)] + offset[CONFIG_T::offset_index(i)];
    }
}

template <class data_T, class res_T, typename CONFIG_T> void relu(data_T data[CONFIG_T::n_out], res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res[i] = data[i] > 0 ? res_T(data[i]) : res_T(0);
    }
}

// The slope below zero is a power of two: `fine_t` is the type of the input with its binary point moved.
template <class data_T, class res_T, typename CONFIG_T>
void leaky_relu(data_T data[CONFIG_T::n_out], res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res[i] = data[i] >= 0 ? res_T(data[i]) : res_T(move_point<typename CONFIG_T::fine_t>(data[i]));
    }
}

// A mean over 2^n entries is a sum with the binary point moved by n: `held_t` has the width of `res_T`.
template <class data_T, class res_T, typename CONFIG_T>
void sum(data_T data[CONFIG_T::outer * CONFIG_T::entries * CONFIG_T::inner], res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        unsigned first = i / CONFIG_T::inner * CONFIG_T::entries * CONFIG_T::inner + i % CONFIG_T::inner;
        typename CONFIG_T::held_t total = 0;
        #pragma hls_unroll
        for (unsigned k = 0; k < CONFIG_T::entries; k++) {
            #pragma HLS UNROLL
            total += data[first + k * CONFIG_T::inner];
        }
        res[i] = move_point<res_T>(total);
    }
}

template <class data_T, class res_T, typename CONFIG_T>
void max(data_T data[CONFIG_T::outer * CONFIG_T::entries * CONFIG_T::inner], res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        unsigned first = i / CONFIG_T::inner * CONFIG_T::entries * CONFIG_T::inner + i % CONFIG_T::inner;
        data_T x[CONFIG_T::entries];
        #pragma HLS ARRAY_PARTITION variable=x complete
        #pragma hls_unroll
        for (unsigned k = 0; k < CONFIG_T::entries; k++) {
            #pragma HLS UNROLL
            x[k] = data[first + k * CONFIG_T::inner];
        }
        res[i] = nnet::reduce<data_T, CONFIG_T::entries, nnet::Op_max<data_T>>(x, nnet::Op_max<data_T>());
    }
}

template <class first_T, class second_T, class res_T, typename CONFIG_T>
void add(first_T *first, second_T *second, res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res[i] = first[CONFIG_T::first_index(i)] + second[CONFIG_T::second_index(i)];
    }
}

template <class first_T, class second_T, class res_T, typename CONFIG_T>
void multiply(first_T *first, second_T *second, res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res[i] = first[CONFIG_T::first_index(i)] * second[CONFIG_T::second_index(i)];
    }
}

// Indices are those of the first term of a sum. A partial sum that leaves the result's type wraps, and comes back.
template <class first_T, class second_T, class res_T, typename CONFIG_T>
void matmul(first_T *first, second_T *second, res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res_T total = 0;
        #pragma hls_unroll
        for (unsigned k = 0; k < CONFIG_T::entries; k++) {
            #pragma HLS UNROLL
            total += first[CONFIG_T::first_index(i) + k] * second[CONFIG_T::second_index(i) + k * CONFIG_T::columns];
        }
        res[i] = total;
    }
}

// The mantissa of the input, a whole number in `whole_t`, counts the entries from `low` on.
template <class data_T, class res_T, typename CONFIG_T>
void table(data_T data[CONFIG_T::n_out], res_T res[CONFIG_T::n_out], typename CONFIG_T::values_t *values) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        res[i] = values[move_point<typename CONFIG_T::whole_t>(data[i]).to_int() - CONFIG_T::low];
    }
}

// Elements in another order; index -1 is a padded zero.
template <class data_T, class res_T, typename CONFIG_T> void rearrange(data_T *data, res_T res[CONFIG_T::n_out]) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned i = 0; i < CONFIG_T::n_out; i++) {
        #pragma HLS UNROLL
        int from = CONFIG_T::data_index(i);
        res[i] = from < 0 ? res_T(0) : res_T(data[from < 0 ? 0 : from]);
    }
}

} // namespace exact
} // namespace nnet

#endif
