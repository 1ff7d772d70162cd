// Runs the network on integer mantissas, binary int64: simulate INPUTS OUTPUTS, one vector after another.
#include "firmware/@NAME@.h"
#include "nnet_utils/nnet_exact_types.h"
#include "nnet_utils/nnet_types.h"
#include <cstdint>
#include <cstdio>
#include <string>

// The mantissas, as whole numbers of the formats of input and output.
typedef nnet::exact::@INPUT_FORMAT@ source_t;
typedef nnet::exact::@OUTPUT_FORMAT@ target_t;

template <class T> void put(const int64_t *source, T *inputs) {
    for (unsigned i = 0; i < @INPUTS@; i++)
        inputs[i] = nnet::exact::move_point<T>(source_t(source[i]));
}

template <class T> void put(const int64_t *source, nnet::exact::stream<T> &inputs) {
    for (unsigned first = 0; first < @INPUTS@; first += T::size) {
        T beat;
        for (unsigned i = 0; i < T::size; i++)
            beat[i] = nnet::exact::move_point<typename T::value_type>(source_t(source[first + i]));
        inputs.write(beat);
    }
}

template <class T> void take(T *outputs, int64_t *target) {
    for (unsigned i = 0; i < @OUTPUTS@; i++)
        target[i] = nnet::exact::move_point<target_t>(outputs[i]).to_int64();
}

template <class T> void take(nnet::exact::stream<T> &outputs, int64_t *target) {
    for (unsigned first = 0; first < @OUTPUTS@; first += T::size) {
        T beat = outputs.read();
        for (unsigned i = 0; i < T::size; i++)
            target[first + i] = nnet::exact::move_point<target_t>(beat[i]).to_int64();
    }
}

@WEIGHTS@static std::string weights_folder;
const char *get_weights_dir() { return weights_folder.c_str(); }

int main(int, char **arguments) {
    static int64_t source[@INPUTS@], target[@OUTPUTS@];
    static @INPUT@;
    static @OUTPUT@;
    std::string program = arguments[0];
    weights_folder = program.substr(0, program.rfind('/') + 1) + "firmware/weights";
    std::FILE *reader = std::fopen(arguments[1], "rb"), *writer = std::fopen(arguments[2], "wb");
    if (!reader || !writer)
        return 1;
    while (std::fread(source, sizeof(int64_t), @INPUTS@, reader) == @INPUTS@) {
        put(source, @INPUT_NAME@);
        @NAME@(@INPUT_NAME@, @OUTPUT_NAME@);
        take(@OUTPUT_NAME@, target);
        if (std::fwrite(target, sizeof(int64_t), @OUTPUTS@, writer) != @OUTPUTS@)
            return 1;
    }
    return std::fclose(writer) != 0;
}
