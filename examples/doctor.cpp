// Prints what this build of golem is, what the machine has, and what is slow or missing.
// SPDX-License-Identifier: Apache-2.0
#include <golem/doctor.hpp>

#include <cstdio>

int main() { std::fputs(golem::doctor().text().c_str(), stdout); }
