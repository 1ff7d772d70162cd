// Runs the network on integer mantissas, binary int64: simulate INPUTS OUTPUTS, one vector after another.
#include "firmware/@NAME@.h"
#include <cstdint>
#include <cstdio>

int main(int, char **arguments) {
    static int64_t source[@INPUTS@], target[@OUTPUTS@];
    static input_t inputs[@INPUTS@];
    static result_t outputs[@OUTPUTS@];
    std::FILE *reader = std::fopen(arguments[1], "rb"), *writer = std::fopen(arguments[2], "wb");
    if (!reader || !writer)
        return 1;
    while (std::fread(source, sizeof(int64_t), @INPUTS@, reader) == @INPUTS@) {
        for (unsigned i = 0; i < @INPUTS@; i++)
            inputs[i].range() = ap_int<64>(source[i]).range(input_t::width - 1, 0);
        @NAME@(inputs, outputs);
        for (unsigned i = 0; i < @OUTPUTS@; i++) {
            @INTEGER@<result_t::width> mantissa;
            mantissa.range() = outputs[i].range();
            target[i] = mantissa.to_int64();
        }
        if (std::fwrite(target, sizeof(int64_t), @OUTPUTS@, writer) != @OUTPUTS@)
            return 1;
    }
    return std::fclose(writer) != 0;
}
