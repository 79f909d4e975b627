/*
 * The network @name@ as a C++ class: runs it once on raw input files or on zeros, and prints where each output is largest.
 *
 *     @c++@ -std=c++17 -O2 -static example.cpp lib@name@.a -lm -o example_cpp
 *     ./example_cpp [input0.bin [input1.bin ...]]
 *
 * An input file holds the elements in C order, in the byte order of the machine: numpy's array.tofile(path).
 */
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "@name@.h"

namespace {

/* Memory at the alignment that @name@_run wants for its workspace; inputs and outputs may lie anywhere. */
class Buffer {
  public:
    explicit Buffer(std::size_t bytes)
        : data_(static_cast<std::byte *>(::operator new(bytes, alignment))), bytes_(bytes) {
        std::memset(data_.get(), 0, bytes);
    }
    std::byte *data() const { return data_.get(); }
    std::size_t bytes() const { return bytes_; }

  private:
    static constexpr std::align_val_t alignment{@NAME@_ALIGNMENT};
    struct Free {
        void operator()(std::byte *data) const { ::operator delete(data, alignment); }
    };
    std::unique_ptr<std::byte, Free> data_;
    std::size_t bytes_;
};

/* One network with its inputs, outputs and workspace. Objects are independent: use one in each thread. */
class Network {
  public:
    Network() : workspace_(@NAME@_WORKSPACE_SIZE) {
        for (int i = 0; i < @NAME@_INPUTS; i++) inputs_.emplace_back(@name@_input(i)->bytes);
        for (int o = 0; o < @NAME@_OUTPUTS; o++) outputs_.emplace_back(@name@_output(o)->bytes);
    }
    Buffer &input(int index) { return inputs_.at(static_cast<std::size_t>(index)); }
    const Buffer &output(int index) const { return outputs_.at(static_cast<std::size_t>(index)); }

    void run() {
        const void *inputs[@NAME@_INPUTS];
        void *outputs[@NAME@_OUTPUTS];
        for (int i = 0; i < @NAME@_INPUTS; i++) inputs[i] = input(i).data();
        for (int o = 0; o < @NAME@_OUTPUTS; o++) outputs[o] = output(o).data();
        int status = @name@_run(inputs, outputs, workspace_.data(), workspace_.bytes());
        if (status != @NAME@_OK) throw std::runtime_error(@name@_status_text(status));
    }

  private:
    std::vector<Buffer> inputs_, outputs_;
    Buffer workspace_;
};

void read_file(const Buffer &buffer, const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path);
    file.read(reinterpret_cast<char *>(buffer.data()), static_cast<std::streamsize>(buffer.bytes()));
    if (!file || file.peek() != std::ifstream::traits_type::eof())
        throw std::runtime_error(path + " does not hold exactly " + std::to_string(buffer.bytes()) + " bytes");
}

template <typename T> std::size_t largest(const Buffer &buffer) {
    std::size_t found = 0, count = buffer.bytes() / sizeof(T);
    std::vector<T> values(count);
    std::memcpy(values.data(), buffer.data(), buffer.bytes());
    for (std::size_t i = 1; i < count; i++)
        if (values[i] > values[found]) found = i;
    return found;
}

void print(const Buffer &buffer, const @name@_tensor *tensor) {
    const std::string type = tensor->dtype;
    std::printf("%s: %s", tensor->name, tensor->dtype);
    if (type == "float32") std::printf(", largest at %lu", static_cast<unsigned long>(largest<float>(buffer)));
    if (type == "int64") std::printf(", largest at %lu", static_cast<unsigned long>(largest<std::int64_t>(buffer)));
    std::printf("\n");
}

} // namespace

int main(int argc, char **argv) try {
    const std::vector<std::string> paths(argv + 1, argv + argc);
    if (!paths.empty() && paths.size() != @NAME@_INPUTS)
        throw std::runtime_error(std::to_string(paths.size()) + " input files given, " +
                                 std::to_string(@NAME@_INPUTS) + " expected");
    Network network;
    for (std::size_t i = 0; i < paths.size(); i++) read_file(network.input(static_cast<int>(i)), paths[i]);
    network.run();
    for (int o = 0; o < @NAME@_OUTPUTS; o++) print(network.output(o), @name@_output(o));
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
