// Runs the network on integer mantissas: binary int64 from standard input to standard output, one vector after another.
#include "firmware/@NAME@.h"
#include <cstdint>
#include <cstdio>

int main() {
    static int64_t numbers[@INPUTS@ > @OUTPUTS@ ? @INPUTS@ : @OUTPUTS@];
    static input_t inputs[@INPUTS@];
    static @RESULT@ outputs[@OUTPUTS@];
    while (std::fread(numbers, sizeof(int64_t), @INPUTS@, stdin) == @INPUTS@) {
        for (unsigned i = 0; i < @INPUTS@; i++)
            inputs[i].range() = ap_int<64>(numbers[i]).range(input_t::width - 1, 0);
        @NAME@(inputs, outputs);
        for (unsigned i = 0; i < @OUTPUTS@; i++) {
            @INTEGER@<@RESULT@::width> mantissa;
            mantissa.range() = outputs[i].range();
            numbers[i] = mantissa.to_int64();
        }
        if (std::fwrite(numbers, sizeof(int64_t), @OUTPUTS@, stdout) != @OUTPUTS@)
            return 1;
    }
    return 0;
}
