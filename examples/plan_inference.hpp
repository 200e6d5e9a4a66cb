// What plan prints of engines: bytes a rank by weight format and tensor degree, and how long a prompt and a token take.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "golem/config/generation_time.hpp"
#include "golem/report/memory_chart.hpp"
#include "plan_options.hpp"
#include "plan_training.hpp"

namespace examples {

/// Calls use.template operator()<Precision>(name) for the formats that GLM-130B's weights are run in (spec 5.1).
template <class Use>
void for_each_format(Use use) {
  use.template operator()<golem::fp16>("fp16");
  use.template operator()<golem::quantized<golem::Quant{.bits = 8}, golem::fp16>>("int8");
  use.template operator()<golem::quantized<golem::Quant{.bits = 4}, golem::fp16>>("int4");
}

/// Of every format on 1, 2, 4 and 8 devices: item by item, and whether it fits; and times at a full context.
inline nlohmann::json print_inference(const PlanOptions& o, const golem::Hardware& hardware) {
  nlohmann::json formats = nlohmann::json::object();
  golem::MemoryChart chart{.title = golem::sentence(o.model, " for inference on ", hardware.name), .bars = {}, .limit = hardware.usable()};
  std::printf("\ninference, GiB a rank    weights  keys, values  activations   head  space    total   prompt s  token ms  tokens/s\n");
  with_preset(o.model, [&]<class M> {
    const int length = o.capacity > 0 ? o.capacity : M::config.context;
    golem::require(length <= M::config.context, "--capacity ", length, " is beyond the model's context of ", M::config.context);
    chart.subtitle = golem::sentence(o.sequences, o.sequences == 1 ? " sequence" : " sequences", " of up to ", length, " tokens");
    for_each_format([&]<class P>(const char* format) {
      for (const int tp : {1, 2, 4, 8}) {
        if (M::config.key_heads() % tp != 0) continue;
        const golem::InferenceMemory m = golem::plan_inference<M, P>(o.sequences, length, tp);
        const golem::GenerationTimes t = golem::generation_times<P>(M::config, hardware, tp, o.sequences, length, o.efficiency);
        const bool fits = m.total() <= hardware.usable();
        std::printf("%s tp %d %22.2f %13.2f %12.2f %6.2f %6.2f %8.2f%c %9.2f %9.1f %9.1f\n", format, tp, gib(m.weights), gib(m.key_value_cache), gib(m.activations), gib(m.head), gib(m.workspace),
                    gib(m.total()), fits ? ' ' : '!', t.prompt, 1e3 * t.token, t.tokens_per_second);
        nlohmann::json row{{"tp", tp}, {"total", m.total()}, {"fits", fits}, {"prompt_seconds", t.prompt}, {"token_seconds", t.token}, {"tokens_per_second", t.tokens_per_second}};
        for (const golem::MemoryItem& item : golem::items_of(m)) row[item.name] = item.bytes;
        formats[format].push_back(row);
        chart.bars.push_back({golem::sentence(format, " tp ", tp), golem::items_of(m)});
      }
    });
  });
  std::printf("(!: more than the %.2f GiB usable of %s. Times: a full context, links and memory at %.0f%%, products at %.0f%% of their peak)\n", gib(hardware.usable()), hardware.name,
              100 * o.efficiency.memory, 100 * o.efficiency.products);
  if (!o.inference_memory.empty()) golem::write_memory_chart(o.inference_memory, chart);
  return formats;
}

}  // namespace examples
