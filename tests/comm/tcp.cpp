// Ranks that are processes and talk through TCP, started as torchrun does.
// SPDX-License-Identifier: Apache-2.0
#include "golem/comm/tcp.hpp"

#include "comm/process_ranks.hpp"

int main(int count, char** words) { return process_ranks::run_as_ranks(count, words); }
