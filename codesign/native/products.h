// Matrix products over rows of a batch, in registers as far as they reach.

#pragma once

#include <cstdint>

// 16 floats, which the compiler splits where registers are shorter; torch aligns memory to 64 bytes
typedef float Vector __attribute__((vector_size(64), may_alias));
constexpr int64_t LANES = 16;  // `batch` is a multiple of it

static inline Vector &at(float *p) { return *reinterpret_cast<Vector *>(p); }
static inline Vector at(const float *p) { return *reinterpret_cast<const Vector *>(p); }
static inline Vector all(float value) { return value - Vector{}; }

static inline float sum(Vector v) {
    float total = 0;
    for (int64_t i = 0; i < LANES; i++) total += v[i];
    return total;
}

// y[m] (+)= bias[m] + sum over k of w[m * w_m + k * w_k] * x[k], for M rows and N vectors of each, held in registers.
template <int M, int N>
static void product_tile(int64_t depth, const float *w, int64_t w_m, int64_t w_k, const float *bias, const float *x,
                         float *y, int64_t batch, bool adds) {
    Vector total[M][N];
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) total[m][n] = adds ? at(y + m * batch + n * LANES) : all(bias ? bias[m] : 0.0f);
    for (int64_t k = 0; k < depth; k++) {
        Vector row[N];
        for (int n = 0; n < N; n++) row[n] = at(x + k * batch + n * LANES);
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) total[m][n] += w[m * w_m + k * w_k] * row[n];
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) at(y + m * batch + n * LANES) = total[m][n];
}

template <int N>
static void product_columns(int64_t rows, int64_t depth, const float *w, int64_t w_m, int64_t w_k, const float *bias,
                            const float *x, float *y, int64_t batch, bool adds) {
    static constexpr decltype(&product_tile<1, N>) tiles[] = {product_tile<1, N>, product_tile<2, N>,
                                                              product_tile<3, N>, product_tile<4, N>,
                                                              product_tile<5, N>, product_tile<6, N>};
    for (int64_t m = 0; m < rows;) {
        int64_t count = rows - m < 6 ? rows - m : 6;
        tiles[count - 1](depth, w + m * w_m, w_m, w_k, bias ? bias + m : nullptr, x, y + m * batch, batch, adds);
        m += count;
    }
}

static void product(int64_t rows, int64_t depth, const float *w, int64_t w_m, int64_t w_k, const float *bias,
                    const float *x, float *y, int64_t batch, bool adds) {
    int64_t b = 0;
    for (; b + 4 * LANES <= batch; b += 4 * LANES)
        product_columns<4>(rows, depth, w, w_m, w_k, bias, x + b, y + b, batch, adds);
    for (; b < batch; b += LANES) product_columns<1>(rows, depth, w, w_m, w_k, bias, x + b, y + b, batch, adds);
}

// gw[m * depth + k] = sum over positions and batch of gy[m] * x[k], for M × N of them, held in registers.
template <int M, int N>
static void weight_tile(int64_t positions, int64_t outputs, int64_t inputs, const float *gy, const float *x, float *gw,
                        int64_t batch) {
    Vector total[M][N] = {};
    for (int64_t p = 0; p < positions; p++)
        for (int64_t b = 0; b < batch; b += LANES) {
            Vector columns[N];
            for (int n = 0; n < N; n++) columns[n] = at(x + (p * inputs + n) * batch + b);
            for (int m = 0; m < M; m++) {
                Vector row = at(gy + (p * outputs + m) * batch + b);
                for (int n = 0; n < N; n++) total[m][n] += row * columns[n];
            }
        }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) gw[m * inputs + n] = sum(total[m][n]);
}

template <int M>
static void weight_rows(int64_t positions, int64_t outputs, int64_t inputs, const float *gy, const float *x, float *gw,
                        int64_t batch) {
    static constexpr decltype(&weight_tile<M, 1>) tiles[] = {weight_tile<M, 1>, weight_tile<M, 2>,
                                                             weight_tile<M, 3>, weight_tile<M, 4>};
    for (int64_t k = 0; k < inputs;) {
        int64_t count = inputs - k < 4 ? inputs - k : 4;
        tiles[count - 1](positions, outputs, inputs, gy, x + k * batch, gw + k, batch);
        k += count;
    }
}
