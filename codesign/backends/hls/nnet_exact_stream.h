#ifndef NNET_EXACT_STREAM_H_
#define NNET_EXACT_STREAM_H_

#include "nnet_common.h"
#include "nnet_exact_types.h"
#include "nnet_types.h"

// How the steps of an integer network take tensors: as arrays, or as streams of beats. A beat holds neighbors along the
// last axis. `CONFIG_T::step` computes one block of a result from one block of each input; blocks are whole beats.

namespace nnet {
namespace exact {

template <unsigned N, class data_T> void read(stream<data_T> &data, typename data_T::value_type *x) {
    #pragma HLS INLINE
    for (unsigned b = 0; b < N / data_T::size; b++) {
        #pragma HLS PIPELINE
        data_T beat = data.read();
        #pragma hls_unroll
        for (unsigned c = 0; c < data_T::size; c++) {
            #pragma HLS UNROLL
            x[b * data_T::size + c] = beat[c];
        }
    }
}

template <unsigned N, class res_T> void write(stream<res_T> &res, typename res_T::value_type *y) {
    #pragma HLS INLINE
    for (unsigned b = 0; b < N / res_T::size; b++) {
        #pragma HLS PIPELINE
        res_T beat;
        #pragma hls_unroll
        for (unsigned c = 0; c < res_T::size; c++) {
            #pragma HLS UNROLL
            beat[c] = y[b * res_T::size + c];
        }
        res.write(beat);
    }
}

// Arrays: every block has hardware of its own.
template <class data_T, class res_T, class CONFIG_T, class... constants_T>
void blocks(data_T *data, res_T *res, constants_T *...constants) {
    #pragma HLS INLINE
    #pragma hls_unroll
    for (unsigned b = 0; b < CONFIG_T::blocks; b++) {
        #pragma HLS UNROLL
        data_T x[CONFIG_T::block_in];
        res_T y[CONFIG_T::n_out];
        #pragma HLS ARRAY_PARTITION variable=x complete
        #pragma HLS ARRAY_PARTITION variable=y complete
        #pragma hls_unroll
        for (unsigned i = 0; i < CONFIG_T::block_in; i++) {
            #pragma HLS UNROLL
            x[i] = data[b * CONFIG_T::block_in + i];
        }
        CONFIG_T::step(x, y, constants...);
        #pragma hls_unroll
        for (unsigned j = 0; j < CONFIG_T::n_out; j++) {
            #pragma HLS UNROLL
            res[b * CONFIG_T::n_out + j] = y[j];
        }
    }
}

// Streams: one hardware takes the blocks as they come.
template <class data_T, class res_T, class CONFIG_T, class... constants_T>
void blocks(stream<data_T> &data, stream<res_T> &res, constants_T *...constants) {
    #pragma hls_pipeline_init_interval 1
    for (unsigned b = 0; b < CONFIG_T::blocks; b++) {
        if (CONFIG_T::is_pipelined) {
            #pragma HLS PIPELINE
        }
        typename data_T::value_type x[CONFIG_T::block_in];
        typename res_T::value_type y[CONFIG_T::n_out];
        #pragma HLS ARRAY_PARTITION variable=x complete
        #pragma HLS ARRAY_PARTITION variable=y complete
        read<CONFIG_T::block_in>(data, x);
        CONFIG_T::step(x, y, constants...);
        write<CONFIG_T::n_out>(res, y);
    }
}

// An input of one block is read once, and every block of the other one meets it.
template <class first_T, class second_T, class res_T, class CONFIG_T>
void pairs(stream<first_T> &first, stream<second_T> &second, stream<res_T> &res) {
    typename first_T::value_type x[CONFIG_T::first_in];
    typename second_T::value_type y[CONFIG_T::second_in];
    #pragma HLS ARRAY_PARTITION variable=x complete
    #pragma HLS ARRAY_PARTITION variable=y complete
    #pragma hls_pipeline_init_interval 1
    for (unsigned b = 0; b < CONFIG_T::blocks; b++) {
        if (CONFIG_T::is_pipelined) {
            #pragma HLS PIPELINE
        }
        typename res_T::value_type z[CONFIG_T::n_out];
        #pragma HLS ARRAY_PARTITION variable=z complete
        if (b < CONFIG_T::first_blocks)
            read<CONFIG_T::first_in>(first, x);
        if (b < CONFIG_T::second_blocks)
            read<CONFIG_T::second_in>(second, y);
        CONFIG_T::step(x, y, z);
        write<CONFIG_T::n_out>(res, z);
    }
}

// A sum or a maximum over an axis before the last: `held` has what came so far.
template <class data_T, class res_T, class CONFIG_T> void fold(stream<data_T> &data, stream<res_T> &res) {
    typename CONFIG_T::held_t held[CONFIG_T::inner];
    #pragma HLS ARRAY_PARTITION variable=held cyclic factor=data_T::size
    for (unsigned o = 0; o < CONFIG_T::outer; o++) {
        for (unsigned k = 0; k < CONFIG_T::entries; k++) {
            #pragma hls_pipeline_init_interval 1
            for (unsigned first = 0; first < CONFIG_T::inner; first += data_T::size) {
                #pragma HLS PIPELINE
                data_T x = data.read();
                typename res_T::value_type y[data_T::size];
                #pragma hls_unroll
                for (unsigned c = 0; c < data_T::size; c++) {
                    #pragma HLS UNROLL
                    typename CONFIG_T::held_t before = held[first + c];
                    held[first + c] = k == 0 ? typename CONFIG_T::held_t(x[c]) : CONFIG_T::combine(before, x[c]);
                    y[c] = CONFIG_T::template finish<typename res_T::value_type>(held[first + c]);
                }
                if (k == CONFIG_T::entries - 1)
                    write<data_T::size>(res, y);
            }
        }
    }
}

// The windows of a convolution, each a block, from a buffer of the lines above the pixel that comes.
template <class data_T, class res_T, class CONFIG_T, class... constants_T>
void windows(stream<data_T> &data, stream<res_T> &res, constants_T *...constants) {
    typedef typename data_T::value_type value_T;
    const unsigned last_row = CONFIG_T::kernel_height - 1, last_column = CONFIG_T::kernel_width - 1;
    value_T lines[CONFIG_T::kernel_height][CONFIG_T::width + 2 * CONFIG_T::pad_width][CONFIG_T::channels];
    value_T window[CONFIG_T::kernel_height][CONFIG_T::kernel_width][CONFIG_T::channels];
    #pragma HLS ARRAY_PARTITION variable=lines complete dim=1
    #pragma HLS ARRAY_PARTITION variable=lines complete dim=3
    #pragma HLS ARRAY_PARTITION variable=window complete dim=0
    for (unsigned row = 0; row < CONFIG_T::height + 2 * CONFIG_T::pad_height; row++) {
        #pragma hls_pipeline_init_interval 1
        for (unsigned column = 0; column < CONFIG_T::width + 2 * CONFIG_T::pad_width; column++) {
            if (CONFIG_T::is_pipelined) {
                #pragma HLS PIPELINE
            }
            value_T pixel[CONFIG_T::channels], x[CONFIG_T::block_in];
            typename res_T::value_type y[CONFIG_T::n_out];
            #pragma HLS ARRAY_PARTITION variable=pixel complete
            #pragma HLS ARRAY_PARTITION variable=x complete
            #pragma HLS ARRAY_PARTITION variable=y complete
            bool is_inside = row >= CONFIG_T::pad_height && row < CONFIG_T::height + CONFIG_T::pad_height &&
                             column >= CONFIG_T::pad_width && column < CONFIG_T::width + CONFIG_T::pad_width;
            if (is_inside)
                read<CONFIG_T::channels>(data, pixel);
            #pragma hls_unroll
            for (unsigned c = 0; c < CONFIG_T::channels; c++) {
                #pragma HLS UNROLL
                #pragma hls_unroll
                for (unsigned r = 0; r <= last_row; r++) {
                    #pragma HLS UNROLL
                    #pragma hls_unroll
                    for (unsigned k = 0; k < last_column; k++) {
                        #pragma HLS UNROLL
                        window[r][k][c] = window[r][k + 1][c];
                    }
                    if (r < last_row)
                        lines[r][column][c] = lines[r + 1][column][c];
                    else
                        lines[r][column][c] = is_inside ? pixel[c] : value_T(0);
                    window[r][last_column][c] = lines[r][column][c];
                }
            }
            #pragma hls_unroll
            for (unsigned i = 0; i < CONFIG_T::block_in; i++) {
                #pragma HLS UNROLL
                unsigned at = i / CONFIG_T::channels;
                x[i] = window[at / CONFIG_T::kernel_width][at % CONFIG_T::kernel_width][i % CONFIG_T::channels];
            }
            if (row >= last_row && (row - last_row) % CONFIG_T::stride_height == 0 && column >= last_column &&
                (column - last_column) % CONFIG_T::stride_width == 0) {
                CONFIG_T::step(x, y, constants...);
                write<CONFIG_T::n_out>(res, y);
            }
        }
    }
}

} // namespace exact
} // namespace nnet

#endif
