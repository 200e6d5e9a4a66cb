// Released checkpoints: files that torch.save itself made are read to the last element, for any degree; what is missing or damaged is named.
// SPDX-License-Identifier: Apache-2.0
#include "golem/io/sat_checkpoint.hpp"

#include <filesystem>
#include <string>
#include <vector>

#include "catch.hpp"
#include "golem/io/pickle_writer.hpp"
#include "golem/io/sat_weights.hpp"
#include "golem/io/zip_writer.hpp"
#include "io/files.hpp"
#include "io/sat_copy.hpp"
#include "io/zip.hpp"

using golem::DType, golem::float16, golem::SatCheckpoint;
using test::error_of, test::has, test::sat_golden;

namespace {

/// Element i of tensor `number`, as make.py has it.
float expected(std::int64_t number, std::int64_t i) { return static_cast<float>((31 * i + 7 * number) % 2001 - 1000) / 1024; }

/// A damaged copy, and how it is refused.
struct OpenedCopy : test::SatCopy {
  std::string error() const {
    return error_of([&] { SatCheckpoint{path}; });
  }
};

}  // namespace

TEST_CASE("what torch.save wrote is found, with the model that it is of") {
  const SatCheckpoint checkpoint(sat_golden);
  CHECK(checkpoint.tp() == 2);
  CHECK(checkpoint.iteration() == "49300");
  CHECK(checkpoint.shard(0).tensors().size() == 29);  // and the two inv_freq
  const golem::SatModel model = golem::sat_model(checkpoint, 2);
  CHECK(model.bits == 0);
  const golem::ModelConfig& c = model.config;
  CHECK((c.layers == 2 && c.hidden == 16 && c.heads == 2 && c.ffn == 24 && c.vocab == 32 && c.ffn_kind == golem::Ffn::geglu));
  CHECK(has(error_of([&] { golem::sat_model(checkpoint); }), "cannot be cut into heads of 128: say how many heads the model has"));
  CHECK(SatCheckpoint(sat_golden + "/49300").tp() == 2);
  for (const char* path : {"/49300", "/49300/", "/49300//", "/49300/.", "/49300/./", "/49300/../49300"}) CHECK(SatCheckpoint(sat_golden + path).iteration() == "49300");
  const test::Folder folder;
  std::filesystem::create_directory_symlink(sat_golden + "/49300", folder / "120");
  CHECK(SatCheckpoint(folder / "120/").iteration() == "120");
  CHECK(!checkpoint.shard(0).find("transformer.layers.0.attention.dense.weight")->contiguous());
  CHECK(!golem::is_sat_checkpoint(GOLEM_TEST_SOURCE "/tests/golden"));
}

TEST_CASE("sizes that no model has are refused before they overflow") {
  OpenedCopy copy;
  const auto write_shard = [](const std::string& path, bool whole) {
    std::vector<golem::PickleTensor> list{{"a", DType::f16, {2}}};
    if (whole) {
      list = {{"transformer.word_embeddings.weight", DType::f16, {524287, 4}}};
      for (const char* name : {"attention.query_key_value.weight", "mlp.dense_h_to_4h.weight", "mlp.dense_4h_to_h.weight"})
        list.push_back({golem::sentence("transformer.layers.0.", name), DType::f16, {4, 4}});
    }
    golem::ZipWriter writer(path);
    const std::string pickle = golem::format_pickle(list, "a test");
    writer.begin("x/data.pkl", pickle.size()), writer.write(pickle);
    for (std::size_t i = 0; i < list.size(); ++i) {
      std::uint64_t bytes = 2;
      for (const std::int64_t dim : list[i].shape) bytes *= static_cast<std::uint64_t>(dim);
      writer.begin(golem::sentence("x/data/", i), bytes), writer.write(std::string(bytes, '\0'));
    }
    writer.finish();
  };
  write_shard(copy.shard(0), true);
  write_shard(copy.shard(1), false);
  for (int rank = 2; rank < 1025; ++rank) std::filesystem::create_hard_link(copy.shard(1), copy.shard(rank));
  const SatCheckpoint checkpoint(copy.path);
  CHECK(has(error_of([&] { golem::sat_model(checkpoint, 1); }), "1025 shards with 524287 rows or columns of a matrix make 537394175, more than"));
}

TEST_CASE("every element is read, by ranks of any degree and as any floating type") {
  const SatCheckpoint checkpoint(sat_golden);
  const golem::SatModel model = golem::sat_model(checkpoint, 2);
  for (const int tp : {1, 2})
    for (int rank = 0; rank < tp; ++rank) {
      const golem::SatWeights weights(checkpoint, model, tp, rank);
      std::int64_t number = 0;
      golem::for_each_parameter(model.config, golem::whole(model.config), [&](const golem::Parameter& p, int layer) {
        std::vector<std::int64_t> shape{p.local_rows(tp)};
        if (p.columns > 0) shape.push_back(p.local_columns(tp));
        std::vector<float> found(static_cast<std::size_t>(p.local_size(tp)));
        const std::string name = golem::full_name(p, layer);
        CHECK(weights.has(name));
        weights.read({.name = name, .type = DType::f32, .shape = shape, .data = found.data(), .bytes = found.size() * 4});
        std::size_t wrong = 0;
        const std::int64_t columns = p.columns > 0 ? p.local_columns(tp) : 1;
        for (std::int64_t i = 0; i < p.local_size(tp); ++i) {
          const std::int64_t place = p.full_row(i / columns, tp, rank) * (p.columns > 0 ? p.columns : 1) + p.full_column(i % columns, tp, rank);
          wrong += found[static_cast<std::size_t>(i)] != expected(number, place);
        }
        INFO(name << " tp " << tp << " rank " << rank);
        CHECK(wrong == 0);
        ++number;
      });
    }
  const golem::SatWeights weights(checkpoint, model);
  CHECK(!weights.has("transformer.layers.2.mlp.dense_4h_to_h.bias"));
  float one[16];
  const golem::TensorState wanted{.name = "transformer.final_layernorm.bias", .type = DType::f32, .shape = {16}, .data = one, .bytes = 64};
  golem::TensorState wrong = wanted;
  wrong.shape = {15};
  CHECK(has(error_of([&] { weights.read(wrong); }), "it is of shape (16), expected (15)"));
  wrong = wanted, wrong.bytes = 60;
  CHECK(has(error_of([&] { weights.read(wrong); }), "memory of 60 bytes for 16 elements"));
  wrong = wanted, wrong.type = DType::i32;
  CHECK(has(error_of([&] { weights.read(wrong); }), "f16 cannot be read as i32"));
  CHECK(has(error_of([&] { golem::SatWeights(checkpoint, model, 3); }), "3 ranks do not divide this model's 2 heads"));
  CHECK(has(error_of([&] { golem::SatWeights(checkpoint, model, 2, 2); }), "rank 2 is none of 2 ranks"));
}

TEST_CASE("what is missing or damaged is named") {
  {
    OpenedCopy copy;
    std::filesystem::remove(copy.shard(0));
    CHECK(has(copy.error(), "lacks mp_rank_00_model_states.pt: of 2 parts it has 1"));
  }
  {
    OpenedCopy copy;
    std::filesystem::remove(copy.shard(1));
    const SatCheckpoint one(copy.path);
    CHECK(has(error_of([&] { golem::sat_model(one, 2); }),
              "and 1 shards of it do not make the 48 of a hidden size of 16: parts of the checkpoint are missing"));
  }
  {
    OpenedCopy copy;
    test::write(copy / "latest", "49400");
    CHECK(has(copy.error(), "names the folder '49400', which is not there"));
    test::write(copy / "latest", "../x");
    CHECK(has(copy.error(), "nor a file 'latest' that names a folder"));
    std::filesystem::create_directory(copy / "4\x1b[2J");
    test::write(copy / "latest", "4\x1b[2J");
    CHECK(has(copy.error(), "nor a file 'latest' that names a folder"));
    test::write(copy / "latest", "49300\n");
    CHECK(copy.error() == "no error");
  }
  {
    OpenedCopy copy;
    std::filesystem::resize_file(copy.shard(1), 20000);
    CHECK(has(copy.error(), "mp_rank_01_model_states.pt' is truncated"));
  }
  {
    OpenedCopy copy;
    std::string file = test::read(copy.shard(1));
    const SatCheckpoint sound(sat_golden);
    const golem::SatTensor& tensor = *sound.shard(1).find("transformer.layers.1.mlp.dense_4h_to_h.bias");
    const auto at = static_cast<std::size_t>(tensor.data - sound.shard(1).archive().file().data());
    file[at + 5] = '\x7e';  // NaN in element 2
    test::write(copy.shard(0), file);
    const SatCheckpoint damaged(copy.path);
    std::vector<float> values(16);
    const std::string error = error_of([&] {
      golem::SatWeights(damaged, golem::sat_model(damaged, 2), 1, 0, {.sums = false})
          .read({.name = "transformer.layers.1.mlp.dense_4h_to_h.bias", .type = DType::f32, .shape = {16}, .data = values.data(), .bytes = 64});
    });
    CHECK(
        has(error, golem::sentence(
                       "mp_rank_00_model_states.pt': tensor 'transformer.layers.1.mlp.dense_4h_to_h.bias' has NaN or infinity, at offset ", at + 4)));
  }
}

TEST_CASE("a tensor is read from bytes that were written, or from none") {
  const SatCheckpoint sound(sat_golden);
  const std::string name = "transformer.layers.1.mlp.dense_4h_to_h.weight";
  const auto read = [&](const SatCheckpoint& checkpoint, const std::string& wanted, std::vector<std::int64_t> shape, golem::SatOptions options) {
    return error_of([&] {
      std::vector<float> values(16 * 24);
      golem::SatWeights(checkpoint, golem::sat_model(checkpoint, 2), 1, 0, options)
          .read({.name = wanted, .type = DType::f32, .shape = shape, .data = values.data(), .bytes = shape.size() == 2 ? values.size() * 4 : 64});
    });
  };
  const auto damaged_at = [](const OpenedCopy& copy, std::size_t at) {
    std::string file = test::read(copy.shard(1));
    file[at] = static_cast<char>(file[at] ^ 1);
    test::write(copy.shard(1), file);
  };
  const golem::ZipArchive& archive = sound.shard(1).archive();
  {
    const OpenedCopy copy;
    damaged_at(copy, static_cast<std::size_t>(sound.shard(1).find(name)->data - archive.file().data()) + 6);
    const SatCheckpoint damaged(copy.path);
    const std::string error = read(damaged, name, {16, 24}, {});
    CHECK(has(error, golem::sentence("cannot load tensor '", name, "' from")));
    CHECK(has(error, "mp_rank_01_model_states.pt': the bytes of entry"));
    CHECK(has(error, "are not those that were written: their CRC is "));
    CHECK(read(damaged, name, {16, 24}, {.sums = false}) == "no error");
    CHECK(read(damaged, "transformer.final_layernorm.bias", {16}, {}) == "no error");  // it lies elsewhere
    CHECK(read(sound, name, {16, 24}, {}) == "no error");
  }
  const OpenedCopy copy;
  std::size_t spare = 0;  // in the name of a tensor that nobody reads
  for (const golem::ZipEntry& entry : archive.entries())
    if (entry.name.ends_with("/data.pkl")) {
      const auto bytes = archive.bytes(entry);
      const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      spare = entry.offset + text.find("rotary_emb.inv_freq");
    }
  damaged_at(copy, spare);
  const SatCheckpoint damaged(copy.path);
  CHECK(has(read(damaged, name, {16, 24}, {}), "/data.pkl' at offset "));
}

TEST_CASE("a hostile shard is refused") {
  const std::string error = error_of([] { golem::SatShard(sat_golden + "/names_os_system.pt"); });
  CHECK(has(error, "names_os_system.pt', pickle at offset "));
  CHECK(has(error, "the pickle names 'posix.system'"));

  const test::Folder folder;
  const auto refused = [&](std::vector<test::ZipPart> parts) {
    test::write(folder / "x.pt", test::zip_of(std::move(parts)));
    return error_of([&] { golem::SatShard(folder / "x.pt"); });
  };
  const std::string pickle = golem::format_pickle({{"w", DType::f16, {2, 2}}}, "a test");
  CHECK(refused({test::zip_part("r/data.pkl", pickle), test::zip_part("r/data/0", "12345678")}) == "no error");
  CHECK(has(refused({test::zip_part("r/data.pkl", pickle)}), "the pickle speaks of a storage '0', and there is no entry 'r/data/0'"));
  CHECK(has(refused({test::zip_part("r/data.pkl", pickle), test::zip_part("r/data/0", "1234567")}),
            "it has 7 bytes, and the pickle speaks of 4 elements of f16"));
  CHECK(has(refused({test::zip_part("r/data.pkl", pickle), test::zip_part("r/data/0", "123456789a")}), "it has 10 bytes"));
  CHECK(has(refused({test::zip_part("r/data.pkl", pickle), test::zip_part("s/data.pkl", pickle)}), "two pickles"));
  CHECK(has(refused({test::zip_part("r/other", pickle)}), "it has no entry data.pkl"));
  CHECK(has(refused({test::zip_part("r/data.pkl", "\x80\2}.")}), "no dict 'module'"));
  CHECK(has(refused({test::zip_part("r/data.pkl", pickle), test::zip_part("r/data/0", "12345678"), test::zip_part("r/byteorder", "big")}),
            "the byte order is 'big'"));
}
