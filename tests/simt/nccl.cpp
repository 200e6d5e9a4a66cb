// NCCL on the host: communicators between threads, whose calls run on the streams of the host's runtime once all have come.
// SPDX-License-Identifier: Apache-2.0
#include <nccl.h>

#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "golem/core/number.hpp"
#include "simt/runtime.hpp"

namespace {

struct Call {
  enum class Kind { all_reduce, reduce_scatter, all_gather, broadcast, send, receive } kind;
  const void* in;
  void* out;
  std::size_t count;
  ncclDataType_t type;
  ncclRedOp_t how = ncclSum;
  int peer = 0;
  std::shared_ptr<const void> graph = nullptr;  // where it was captured: what the communicator waits for the end of
  std::shared_ptr<bool> done = nullptr;
};

// All ranks of one communicator.
struct Clique {
  int ranks, joined = 0;
  std::vector<std::deque<Call>> calls;  // by rank
  std::vector<bool> aborted;            // by rank: its own calls end; those of the others wait for it for ever
};

std::map<std::string, std::shared_ptr<Clique>>& cliques() {
  static std::map<std::string, std::shared_ptr<Clique>> all;
  return all;
}

std::size_t bytes_of(ncclDataType_t type) {
  switch (type) {
    case ncclInt8: case ncclUint8: return 1;
    case ncclFloat16: case ncclBfloat16: return 2;
    case ncclInt32: case ncclFloat32: return 4;
    default: return 8;
  }
}

template <class T, class Sum>
void reduce(std::vector<Call*>& calls, std::size_t begin, std::size_t count, void* out) {
  std::vector<T> result(count);
  for (std::size_t i = 0; i < count; ++i) {
    Sum sum = static_cast<Sum>(static_cast<const T*>(calls[0]->in)[begin + i]);
    for (std::size_t rank = 1; rank < calls.size(); ++rank) {
      const Sum next = static_cast<Sum>(static_cast<const T*>(calls[rank]->in)[begin + i]);
      sum = calls[0]->how == ncclSum ? sum + next : sum < next ? next : sum;
    }
    result[i] = static_cast<T>(sum);
  }
  std::memcpy(out, result.data(), count * sizeof(T));
}

void reduce(std::vector<Call*>& calls, std::size_t begin, std::size_t count, void* out) {
  switch (calls[0]->type) {
    case ncclFloat64: return reduce<double, double>(calls, begin, count, out);
    case ncclFloat32: return reduce<float, float>(calls, begin, count, out);
    case ncclFloat16: return reduce<golem::float16, float>(calls, begin, count, out);
    case ncclBfloat16: return reduce<golem::bfloat16, float>(calls, begin, count, out);
    case ncclInt64: return reduce<std::int64_t, std::int64_t>(calls, begin, count, out);
    case ncclInt32: return reduce<std::int32_t, std::int32_t>(calls, begin, count, out);
    default: throw std::runtime_error("NCCL on the host was asked to reduce a type that golem has no sums of");
  }
}

void move(std::vector<Call*>& calls) {
  const Call& first = *calls[0];
  const std::size_t bytes = first.count * bytes_of(first.type), ranks = calls.size();
  switch (first.kind) {
    case Call::Kind::all_reduce: {
      std::vector<char> sum(bytes);
      reduce(calls, 0, first.count, sum.data());
      for (Call* call : calls) std::memcpy(call->out, sum.data(), bytes);
      return;
    }
    case Call::Kind::reduce_scatter: {
      std::vector<char> sums(bytes * ranks);
      for (std::size_t rank = 0; rank < ranks; ++rank) reduce(calls, rank * first.count, first.count, sums.data() + rank * bytes);
      for (std::size_t rank = 0; rank < ranks; ++rank) std::memcpy(calls[rank]->out, sums.data() + rank * bytes, bytes);
      return;
    }
    case Call::Kind::all_gather: {
      std::vector<char> all;
      for (const Call* call : calls) all.insert(all.end(), static_cast<const char*>(call->in), static_cast<const char*>(call->in) + bytes);
      for (Call* call : calls) std::memcpy(call->out, all.data(), all.size());
      return;
    }
    case Call::Kind::broadcast: {
      const std::vector<char> root(static_cast<const char*>(calls[static_cast<std::size_t>(first.peer)]->in), static_cast<const char*>(calls[static_cast<std::size_t>(first.peer)]->in) + bytes);
      for (Call* call : calls) std::memcpy(call->out, root.data(), bytes);
      return;
    }
    default: {
      const Call& from = first.kind == Call::Kind::send ? first : *calls[1];
      const Call& to = first.kind == Call::Kind::send ? *calls[1] : first;
      if (from.kind != Call::Kind::send || to.kind != Call::Kind::receive) throw std::runtime_error("NCCL on the host: two ranks both send, or both receive");
      std::memcpy(to.out, from.in, bytes);
    }
  }
}

// Runs what all ranks have called.
void advance(Clique& clique) {
  for (;;) {
    std::vector<Call*> calls;
    for (auto& queue : clique.calls)
      if (!queue.empty()) calls.push_back(&queue.front());
    if (static_cast<int>(calls.size()) < clique.ranks) return;
    const bool message = calls[0]->kind == Call::Kind::send || calls[0]->kind == Call::Kind::receive;
    for (const Call* call : calls)
      if (!call->graph != !calls[0]->graph) throw std::runtime_error("NCCL on the host: some ranks captured a call as part of a graph, and others did not");
      else if (call->count != calls[0]->count || call->type != calls[0]->type || (!message && (call->kind != calls[0]->kind || call->peer != calls[0]->peer || call->how != calls[0]->how)))
        throw std::runtime_error("NCCL on the host: the ranks made different calls");
    move(calls);
    for (Call* call : calls) *call->done = true;
    for (auto& queue : clique.calls) queue.pop_front();
  }
}

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank;
  std::shared_ptr<const void> graphs = std::make_shared<int>();  // which hold copies
  bool finalized = false;
};

namespace {

thread_local int groups = 0;  // that were begun and not ended
thread_local std::vector<std::shared_ptr<bool>> own;  // of this thread's calls, outside graphs: whether each has ended
thread_local std::string refused;                     // why NCCL did not take this thread's last meeting

ncclResult_t post(Call call, ncclComm_t comm, cudaStream_t stream) {
  if (comm->clique->joined < comm->clique->ranks) return ncclInvalidUsage;
  if (simt::is_captured(stream)) call.graph = comm->graphs;
  else own.push_back(call.done = std::make_shared<bool>(false));
  simt::enqueue(simt::Work([call, clique = comm->clique, rank = comm->rank] {
                  Call now = call;
                  if (!now.done) now.done = std::make_shared<bool>(false);  // each run of a graph has its own
                  if (clique->aborted[static_cast<std::size_t>(rank)]) *now.done = true;
                  if (*now.done) return now.done;
                  clique->calls[static_cast<std::size_t>(rank)].push_back(now);
                  advance(*clique);
                  return now.done;
                }),
                stream);
  return ncclInProgress;
}

// Where ranks meet, NCCL allocates, and may wait for all that this GPU does. A call that ends only with a later one of a rank that
// waits for this meeting itself would hold both for ever.
bool waits_in_vain() {
  const auto ended = [] { return std::erase_if(own, [](const std::shared_ptr<bool>& done) { return *done; }), own.empty(); };
  return !simt::ends_within(std::chrono::seconds(5), ended);
}

// NCCL ends no communicator that a graph may still run transfers of.
void wait_for_graphs(const ncclComm& comm) {
  for (int milliseconds = 0; comm.graphs.use_count() > 1; ++milliseconds) {
    if (milliseconds > 20'000) throw std::runtime_error("NCCL on the host: a communicator is to end, and a graph with its transfers is never destroyed");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace

extern "C" {

const char* ncclGetErrorString(ncclResult_t status) { return status == ncclRemoteError ? "remote process exited or there was a network error" : "the host's NCCL was told to fail"; }
const char* ncclGetLastError(ncclComm_t) { return refused.empty() ? simt::machine().lost_peer.c_str() : refused.c_str(); }
ncclResult_t ncclGetVersion(int* version) {
  *version = simt::machine().nccl_version ? simt::machine().nccl_version : NCCL_VERSION_CODE;
  return ncclSuccess;
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int made = 0;
  simt::locked([&] {
    *id = {};
    std::snprintf(id->internal, sizeof id->internal, "clique %d", ++made);
  });
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0) return ncclInvalidArgument;
  refused = waits_in_vain() ? "a transfer of this rank waits for one that comes behind the meeting" : "";
  if (!refused.empty()) return ncclInternalError;
  simt::locked([&] {
    std::shared_ptr<Clique>& clique = cliques()[id.internal];
    if (!clique) clique = std::make_shared<Clique>(Clique{.ranks = ranks, .calls = std::vector<std::deque<Call>>(static_cast<std::size_t>(ranks)), .aborted = std::vector<bool>(static_cast<std::size_t>(ranks))});
    ++clique->joined;
    ++simt::counts().meetings;
    *comm = new ncclComm{clique, rank};
    if (clique->joined == ranks) cliques().erase(id.internal);
    simt::expect_other_threads(1);
  });
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* status) {
  simt::locked([&] { *status = !simt::machine().lost_peer.empty() ? ncclRemoteError : comm->clique->joined < comm->clique->ranks || (comm->finalized && comm->graphs.use_count() > 1) ? ncclInProgress : ncclSuccess; });
  return ncclSuccess;
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  simt::locked([&] { comm->finalized = true; });
  return ncclInProgress;
}
ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  wait_for_graphs(*comm);
  std::this_thread::sleep_for(simt::machine().nccl_leave);
  simt::expect_other_threads(-1);
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  ++groups;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  --groups;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  ++simt::counts().aborts;
  if (groups == 0) ++simt::counts().aborts_alone;
  simt::locked([&] {
    const auto rank = static_cast<std::size_t>(comm->rank);
    comm->clique->aborted[rank] = true;
    for (Call& call : comm->clique->calls[rank]) *call.done = true;
    comm->clique->calls[rank].clear();
  });
  wait_for_graphs(*comm);
  simt::expect_other_threads(-1);
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t how, ncclComm_t comm, cudaStream_t stream) {
  return post({.kind = Call::Kind::all_reduce, .in = in, .out = out, .count = count, .type = type, .how = how}, comm, stream);
}
ncclResult_t ncclReduceScatter(const void* in, void* out, size_t count, ncclDataType_t type, ncclRedOp_t how, ncclComm_t comm, cudaStream_t stream) {
  return post({.kind = Call::Kind::reduce_scatter, .in = in, .out = out, .count = count, .type = type, .how = how}, comm, stream);
}
ncclResult_t ncclAllGather(const void* in, void* out, size_t count, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return post({.kind = Call::Kind::all_gather, .in = in, .out = out, .count = count, .type = type}, comm, stream);
}
ncclResult_t ncclBroadcast(const void* in, void* out, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return post({.kind = Call::Kind::broadcast, .in = in, .out = out, .count = count, .type = type, .peer = root}, comm, stream);
}
ncclResult_t ncclSend(const void* in, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return post({.kind = Call::Kind::send, .in = in, .out = nullptr, .count = count, .type = type, .peer = peer}, comm, stream);
}
ncclResult_t ncclRecv(void* out, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return post({.kind = Call::Kind::receive, .in = nullptr, .out = out, .count = count, .type = type, .peer = peer}, comm, stream);
}

}  // extern "C"
