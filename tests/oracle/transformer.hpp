// A whole GLM in double precision and plain loops, written from spec 1.2 to 1.7 and nothing else: the loss of a batch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "golem/config/model.hpp"
#include "golem/core/batch.hpp"

namespace oracle {

using Vector = std::vector<double>;

/// Weights by their names in files, row-major.
struct Glm {
  golem::ModelConfig config;
  std::map<std::string, Vector> weights;
  bool fp16_table = false;

  const Vector& w(const std::string& name) const { return weights.at(name); }
  const Vector& w(int layer, const std::string& name) const { return weights.at("transformer.layers." + std::to_string(layer) + "." + name); }

  static Vector norm(const Vector& x, const Vector& gamma, const Vector& beta, double eps) {
    double mean = 0, variance = 0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (const double v : x) variance += (v - mean) * (v - mean) / static_cast<double>(x.size());
    Vector y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = (x[i] - mean) / std::sqrt(variance + eps) * gamma[i] + beta[i];
    return y;
  }
  static Vector linear(const Vector& x, const Vector& weight, const Vector& bias) {
    Vector y = bias;
    for (std::size_t o = 0; o < y.size(); ++o)
      for (std::size_t i = 0; i < x.size(); ++i) y[o] += weight[o * x.size() + i] * x[i];
    return y;
  }
  static double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

  void rotate(double* head, int position) const {
    const int dim = config.head_dim();
    for (int j = 0; j < dim / 2; ++j) {
      const double angle = position / std::pow(config.rope_base, 2.0 * j / dim), c = std::cos(angle), s = std::sin(angle);
      const double a = head[j], b = head[j + dim / 2];
      head[j] = a * c - b * s, head[j + dim / 2] = b * c + a * s;
    }
  }

  /// Which tokens of its row token i sees.
  bool visible(const golem::Batch& batch, int row, int i, int j) const {
    for (int k = batch.first_window[static_cast<std::size_t>(row)]; k < batch.first_window[static_cast<std::size_t>(row) + 1]; ++k) {
      const golem::Window& window = batch.windows[static_cast<std::size_t>(k)];
      if (i < window.begin || i >= window.end) continue;
      if (j >= window.context_begin && j < window.context_end) return true;
      if (j < window.begin || j >= window.end) continue;
      if (config.mask == golem::Mask::bidirectional) return true;
      return j <= i || (config.mask == golem::Mask::prefix && j < window.begin + window.prefix);
    }
    return false;
  }

  /// Hidden states after the final norm, of one row.
  std::vector<Vector> hidden(const golem::Batch& batch, int row) const {
    const golem::ModelConfig& c = config;
    const auto C = static_cast<std::size_t>(c.hidden), D = static_cast<std::size_t>(c.head_dim()), S = static_cast<std::size_t>(c.heads / c.key_heads()), F = static_cast<std::size_t>(c.ffn);
    const auto T = static_cast<std::size_t>(batch.length), start = static_cast<std::size_t>(row) * T;
    const double alpha = c.norm == golem::Norm::deep ? std::sqrt(2.0 * c.layers) : 1.0;
    std::vector<Vector> h(T);
    for (std::size_t t = 0; t < T; ++t) {
      const auto token = static_cast<std::size_t>(batch.tokens[start + t]);
      const Vector& table = w("transformer.word_embeddings.weight");
      h[t].assign(table.begin() + static_cast<std::ptrdiff_t>(token * C), table.begin() + static_cast<std::ptrdiff_t>((token + 1) * C));
    }
    for (int l = 0; l < c.layers; ++l) {
      std::vector<Vector> a(T), qkv(T), residual(T), attended(T, Vector(C, 0.0));
      for (std::size_t t = 0; t < T; ++t) {
        a[t] = norm(h[t], w(l, "input_layernorm.weight"), w(l, "input_layernorm.bias"), c.norm_eps);
        qkv[t] = linear(a[t], w(l, "attention.query_key_value.weight"), w(l, "attention.query_key_value.bias"));
        for (std::size_t part = 0; part < qkv[t].size() / D; ++part)  // q of each head that shares a key, k, v
          if (part % (S + 2) <= S) rotate(qkv[t].data() + part * D, batch.positions[start + t]);
        residual[t] = c.norm == golem::Norm::pre ? h[t] : a[t];
      }
      for (std::size_t n = 0; n < static_cast<std::size_t>(c.heads); ++n)
        for (std::size_t i = 0; i < T; ++i) {
          const std::size_t group = n / S * (S + 2) * D, query = group + n % S * D, key = group + S * D, value = key + D;
          Vector p(T, 0.0);
          double max = -1e300, sum = 0;
          for (std::size_t j = 0; j < T; ++j) {
            if (!visible(batch, row, static_cast<int>(i), static_cast<int>(j))) continue;
            for (std::size_t d = 0; d < D; ++d) p[j] += qkv[i][query + d] * qkv[j][key + d] / std::sqrt(static_cast<double>(D));
            max = std::max(max, p[j]);
          }
          for (std::size_t j = 0; j < T; ++j) {
            p[j] = visible(batch, row, static_cast<int>(i), static_cast<int>(j)) ? std::exp(p[j] - max) : 0.0;
            sum += p[j];
          }
          for (std::size_t j = 0; j < T && sum > 0; ++j)
            for (std::size_t d = 0; d < D; ++d) attended[i][n * D + d] += p[j] / sum * qkv[j][value + d];
        }
      for (std::size_t t = 0; t < T; ++t) {
        const Vector branch = linear(attended[t], w(l, "attention.dense.weight"), w(l, "attention.dense.bias"));
        Vector h1(C);
        for (std::size_t i = 0; i < C; ++i) h1[i] = alpha * residual[t][i] + branch[i];
        const Vector m = norm(h1, w(l, "post_attention_layernorm.weight"), w(l, "post_attention_layernorm.bias"), c.norm_eps);
        const Vector u = linear(m, w(l, "mlp.dense_h_to_4h.weight"), w(l, "mlp.dense_h_to_4h.bias"));
        Vector gated(F);
        for (std::size_t i = 0; i < F; ++i) gated[i] = c.ffn_kind == golem::Ffn::geglu ? u[i] * gelu(u[F + i]) : gelu(u[i]);
        const Vector ffn = linear(gated, w(l, "mlp.dense_4h_to_h.weight"), w(l, "mlp.dense_4h_to_h.bias"));
        for (std::size_t i = 0; i < C; ++i) h[t][i] = alpha * (c.norm == golem::Norm::pre ? h1[i] : m[i]) + ffn[i];
      }
    }
    for (Vector& x : h) x = norm(x, w("transformer.final_layernorm.weight"), w("transformer.final_layernorm.bias"), c.norm_eps);
    return h;
  }

  /// Logits of one hidden state.
  Vector logits(const Vector& x) const { return linear(x, w("transformer.word_embeddings.weight"), Vector(static_cast<std::size_t>(config.vocab), 0.0)); }

  /// Mean over rows of the row's mean loss over scored tokens (spec 2.5).
  double loss(const golem::Batch& batch) const {
    double total = 0;
    for (int r = 0; r < batch.rows; ++r) {
      const std::vector<Vector> h = hidden(batch, r);
      double sum = 0, count = 0;
      for (std::size_t t = 0; t < h.size(); ++t) {
        const int target = batch.targets[static_cast<std::size_t>(r) * h.size() + t];
        if (target < 0) continue;
        const Vector l = logits(h[t]);
        double max = -1e300, exps = 0;
        for (const double v : l) max = std::max(max, v);
        for (const double v : l) exps += std::exp(v - max);
        sum += std::log(exps) + max - l[static_cast<std::size_t>(target)], ++count;
      }
      if (count > 0) total += sum / count;
    }
    return total / batch.rows;
  }
};

}  // namespace oracle
