// Every layer: forward, and backward from the gradient of what it gave.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "products.h"

enum Kind : int32_t { LINEAR, NORM, ACTIVATE, POOL, GATHER };
enum Pooling : int32_t { MEAN, SUM, MAX };

struct Op {
    int32_t kind;
    int32_t pooling;        // POOL
    int32_t adds_forward;   // GATHER adds to y instead of writing it
    int32_t adds_backward;  // the gradient of x is added to: x has another reader, which came before
    int64_t sizes[3];       // see each kernel
    float *x, *y;           // rows that go in and come out
    float *gx, *gy;         // their gradients; no gx where nobody asks for it
    float *weight, *bias;   // LINEAR, and scale and shift of NORM
    float *gweight, *gbias;
    float *mean, *variance;  // NORM: running statistics
    float *saved;            // NORM: mean and inverse deviation of the batch, for each group
    const int32_t *index;    // GATHER: the row of x that becomes each row of y, or -1 for zeros
    float slope;             // ACTIVATE: below zero
    float momentum, epsilon;  // NORM
};

// sizes: positions, inputs, outputs. The same weight (outputs, inputs) at every position.
static void linear(const Op &op, int64_t batch) {
    auto [positions, inputs, outputs] = op.sizes;
    for (int64_t p = 0; p < positions; p++)
        product(outputs, inputs, op.weight, inputs, 1, op.bias, op.x + p * inputs * batch,
                op.y + p * outputs * batch, batch, false);
}

static void linear_backward(const Op &op, int64_t batch) {
    auto [positions, inputs, outputs] = op.sizes;
    static constexpr decltype(&weight_rows<1>) rows[] = {weight_rows<1>, weight_rows<2>, weight_rows<3>,
                                                         weight_rows<4>};
    for (int64_t m = 0; m < outputs;) {
        int64_t count = outputs - m < 4 ? outputs - m : 4;
        rows[count - 1](positions, outputs, inputs, op.gy + m * batch, op.x, op.gweight + m * inputs, batch);
        m += count;
    }
    for (int64_t m = 0; m < outputs; m++) {
        Vector total = {};
        for (int64_t p = 0; p < positions; p++)
            for (int64_t b = 0; b < batch; b += LANES) total += at(op.gy + (p * outputs + m) * batch + b);
        op.gbias[m] = sum(total);
    }
    if (op.gx)
        for (int64_t p = 0; p < positions; p++)
            product(inputs, outputs, op.weight, 1, inputs, nullptr, op.gy + p * outputs * batch,
                    op.gx + p * inputs * batch, batch, op.adds_backward);
}

// Call visit(offset) for each vector of a group, where sizes are outer, groups, inner.
template <typename Visit>
static inline void each(const Op &op, int64_t group, int64_t batch, Visit visit) {
    auto [outer, groups, inner] = op.sizes;
    for (int64_t o = 0; o < outer; o++) {
        int64_t start = (o * groups + group) * inner * batch;
        for (int64_t b = start; b < start + inner * batch; b += LANES) visit(b);
    }
}

// sizes: outer, groups, inner. Statistics for each group, over outer, inner and batch.
static void norm(const Op &op, int64_t batch, bool is_training) {
    auto [outer, groups, inner] = op.sizes;
    float count = float(outer * inner * batch);
    for (int64_t g = 0; g < groups; g++) {
        float mean = op.mean[g], variance = op.variance[g];
        if (is_training) {
            Vector total = {}, squares = {};
            each(op, g, batch, [&](int64_t b) { total += at(op.x + b); });
            mean = sum(total) / count;
            each(op, g, batch, [&](int64_t b) {
                Vector off = at(op.x + b) - mean;
                squares += off * off;
            });
            variance = sum(squares) / count;
            op.mean[g] += op.momentum * (mean - op.mean[g]);
            op.variance[g] += op.momentum * (variance * count / (count - 1) - op.variance[g]);
        }
        float inverse = 1 / std::sqrt(variance + op.epsilon);
        op.saved[2 * g] = mean, op.saved[2 * g + 1] = inverse;
        float scale = inverse * op.weight[g], shift = op.bias[g];
        each(op, g, batch, [&](int64_t b) { at(op.y + b) = (at(op.x + b) - mean) * scale + shift; });
    }
}

static void norm_backward(const Op &op, int64_t batch) {
    auto [outer, groups, inner] = op.sizes;
    float count = float(outer * inner * batch);
    for (int64_t g = 0; g < groups; g++) {
        float mean = op.saved[2 * g], inverse = op.saved[2 * g + 1];
        Vector total = {}, products = {};
        each(op, g, batch, [&](int64_t b) {
            Vector gradient = at(op.gy + b);
            total += gradient;
            products += gradient * (at(op.x + b) - mean);
        });
        op.gbias[g] = sum(total);
        op.gweight[g] = sum(products) * inverse;
        if (!op.gx) continue;
        float scale = op.weight[g] * inverse, offset = op.gbias[g] / count;
        float slope = op.gweight[g] * inverse / count;
        bool adds = op.adds_backward;
        each(op, g, batch, [&](int64_t b) {
            Vector gradient = scale * (at(op.gy + b) - offset - slope * (at(op.x + b) - mean));
            at(op.gx + b) = adds ? at(op.gx + b) + gradient : gradient;
        });
    }
}

// sizes: rows. A ReLU, leaky or not; x and y may be the same memory, and their gradients too.
static void activate(const Op &op, int64_t batch) {
    for (int64_t b = 0; b < op.sizes[0] * batch; b += LANES) {
        Vector x = at(op.x + b);
        at(op.y + b) = x > 0 ? x : op.slope * x;
    }
}

static void activate_backward(const Op &op, int64_t batch) {
    if (!op.gx) return;
    for (int64_t b = 0; b < op.sizes[0] * batch; b += LANES) {
        Vector gradient = at(op.gy + b);
        gradient = at(op.y + b) > 0 ? gradient : op.slope * gradient;
        at(op.gx + b) = op.adds_backward ? at(op.gx + b) + gradient : gradient;
    }
}

// sizes: outer, pooled, inner.
static void pool(const Op &op, int64_t batch) {
    auto [outer, pooled, inner] = op.sizes;
    int64_t step = inner * batch;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t b = 0; b < step; b += LANES) {
            const float *x = op.x + o * pooled * step + b;
            Vector total = at(x);
            for (int64_t k = 1; k < pooled; k++) {
                Vector next = at(x + k * step);
                if (op.pooling == MAX)
                    total = total > next ? total : next;
                else
                    total += next;
            }
            at(op.y + o * step + b) = op.pooling == MEAN ? total / float(pooled) : total;
        }
}

static void pool_backward(const Op &op, int64_t batch) {
    if (!op.gx) return;
    auto [outer, pooled, inner] = op.sizes;
    int64_t step = inner * batch;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t b = 0; b < step; b += LANES) {
            const float *x = op.x + o * pooled * step + b;
            float *gx = op.gx + o * pooled * step + b;
            Vector gradient = at(op.gy + o * step + b), largest = at(op.y + o * step + b), ties = {};
            if (op.pooling == MEAN) gradient /= float(pooled);
            if (op.pooling == MAX) {  // equal maxima share the gradient, as torch.amax has it
                for (int64_t k = 0; k < pooled; k++) ties += at(x + k * step) == largest ? all(1) : Vector{};
                gradient /= ties;
            }
            for (int64_t k = 0; k < pooled; k++) {
                Vector part = gradient;
                if (op.pooling == MAX) part = at(x + k * step) == largest ? gradient : Vector{};
                at(gx + k * step) = op.adds_backward ? at(gx + k * step) + part : part;
            }
        }
}

// to (+)= from, one row.
static inline void move(float *to, const float *from, int64_t batch, bool adds) {
    for (int64_t b = 0; b < batch; b += LANES) at(to + b) = adds ? at(to + b) + at(from + b) : at(from + b);
}

// sizes: rows of x, rows of y.
static void gather(const Op &op, int64_t batch) {
    for (int64_t row = 0; row < op.sizes[1]; row++) {
        float *y = op.y + row * batch;
        if (op.index[row] >= 0)
            move(y, op.x + op.index[row] * batch, batch, op.adds_forward);
        else if (!op.adds_forward)
            std::memset(y, 0, batch * sizeof(float));
    }
}

static void gather_backward(const Op &op, int64_t batch) {
    if (!op.gx) return;
    if (!op.adds_backward) std::memset(op.gx, 0, op.sizes[0] * batch * sizeof(float));
    for (int64_t row = 0; row < op.sizes[1]; row++)
        if (op.index[row] >= 0) move(op.gx + op.index[row] * batch, op.gy + row * batch, batch, true);
}
