// Forward and backward passes of small networks on one core, with the batch innermost in memory.
//
// A tensor (*shape, batch) is a table of rows, one for each element of a sample, each `batch` floats long. So every loop
// runs over a batch in whole vectors, whatever the widths of the layers; and a transpose, a padding, or the patches of a
// convolution move whole rows. A network is an array of `Op`; `program.py` writes it and owns all memory.

#include <cmath>
#include <cstdint>

#include "layers.h"

enum Loss : int32_t { CROSS_ENTROPY, MSE, L1 };

static void forward(const Op *ops, int64_t count, int64_t batch, bool is_training) {
    for (int64_t i = 0; i < count; i++) switch (ops[i].kind) {
            case LINEAR: linear(ops[i], batch); break;
            case NORM: norm(ops[i], batch, is_training); break;
            case ACTIVATE: activate(ops[i], batch); break;
            case POOL: pool(ops[i], batch); break;
            case GATHER: gather(ops[i], batch); break;
        }
}

static void backward(const Op *ops, int64_t count, int64_t batch) {
    for (int64_t i = count - 1; i >= 0; i--) switch (ops[i].kind) {
            case LINEAR: linear_backward(ops[i], batch); break;
            case NORM: norm_backward(ops[i], batch); break;
            case ACTIVATE: activate_backward(ops[i], batch); break;
            case POOL: pool_backward(ops[i], batch); break;
            case GATHER: gather_backward(ops[i], batch); break;
        }
}

// Fill rows (features, batch) with samples; lanes beyond `count` repeat the last sample.
static void load(const float *inputs, const int64_t *samples, int64_t count, int64_t features, float *x,
                 int64_t batch) {
    for (int64_t b = 0; b < batch; b += LANES) {
        const float *from[LANES];
        for (int64_t i = 0; i < LANES; i++) from[i] = inputs + samples[b + i < count ? b + i : count - 1] * features;
        for (int64_t f = 0; f < features; f++)
            for (int64_t i = 0; i < LANES; i++) x[f * batch + b + i] = from[i][f];
    }
}

// Return the mean loss over `count` samples of outputs y (outputs, batch), and its gradient where gy is given.
static double loss_of(int32_t loss, const float *y, float *gy, const void *targets, const int64_t *samples,
                      int64_t count, int64_t outputs, int64_t batch) {
    double total = 0;
    int64_t terms = loss == CROSS_ENTROPY ? count : count * outputs;
    for (int64_t b = 0; b < count; b++) {
        if (loss == CROSS_ENTROPY) {
            int64_t label = static_cast<const int64_t *>(targets)[samples[b]];
            float largest = y[b], partition = 0;
            for (int64_t o = 1; o < outputs; o++) largest = std::fmax(largest, y[o * batch + b]);
            for (int64_t o = 0; o < outputs; o++) partition += std::exp(y[o * batch + b] - largest);
            total += std::log(partition) + largest - y[label * batch + b];
            if (!gy) continue;
            for (int64_t o = 0; o < outputs; o++)
                gy[o * batch + b] = (std::exp(y[o * batch + b] - largest) / partition - (o == label)) / terms;
            continue;
        }
        const float *target = static_cast<const float *>(targets) + samples[b] * outputs;
        for (int64_t o = 0; o < outputs; o++) {
            float off = y[o * batch + b] - target[o];
            total += loss == MSE ? off * off : std::fabs(off);
            if (gy) gy[o * batch + b] = (loss == MSE ? 2 * off : float((off > 0) - (off < 0))) / terms;
        }
    }
    return total / terms;
}

struct Table {
    const Op *ops;
    int64_t count;     // of ops
    int64_t batch;     // length of a row
    int64_t features;  // of a sample that goes in
    int64_t outputs;
    int32_t loss;
    float *x;        // (features, batch)
    float *y, *gy;   // (outputs, batch)
};

// Return the mean loss of a full batch and fill the gradients of all parameters.
extern "C" double gradient(const Table *p, const float *inputs, const void *targets, const int64_t *samples) {
    load(inputs, samples, p->batch, p->features, p->x, p->batch);
    forward(p->ops, p->count, p->batch, true);
    double loss = loss_of(p->loss, p->y, p->gy, targets, samples, p->batch, p->outputs, p->batch);
    backward(p->ops, p->count, p->batch);
    return loss;
}

// Return the mean loss of `count` samples with the running statistics, at most a batch of them.
extern "C" double evaluate(const Table *p, const float *inputs, const void *targets, const int64_t *samples,
                           int64_t count) {
    load(inputs, samples, count, p->features, p->x, p->batch);
    forward(p->ops, p->count, p->batch, false);
    return loss_of(p->loss, p->y, nullptr, targets, samples, count, p->outputs, p->batch);
}

// One step of AdamW: Kingma and Ba, arXiv 1412.6980, algorithm 1; Loshchilov and Hutter, arXiv 1711.05101, algorithm 2.
extern "C" void update(float *weight, const float *gradient, float *mean, float *square, int64_t count, int64_t step,
                       double rate, double decay) {
    const float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;
    const float scale = float(rate / (1 - std::pow(0.9, step))), root = float(std::sqrt(1 - std::pow(0.999, step)));
    const float kept = float(1 - rate * decay);
    for (int64_t i = 0; i < count; i++) {
        mean[i] += (1 - beta1) * (gradient[i] - mean[i]);
        square[i] = beta2 * square[i] + (1 - beta2) * gradient[i] * gradient[i];
        weight[i] = kept * weight[i] - scale * mean[i] / (std::sqrt(square[i]) / root + epsilon);
    }
}
