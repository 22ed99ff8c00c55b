/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_table.h - every field of the configuration, once.
 *
 * X(name, type, default, choices, minimum, maximum, secret, text)
 */
#ifndef GP_CONFIG_TABLE_H
#define GP_CONFIG_TABLE_H

/* clang-format off */
#define GP_CONFIG_TABLE(X)                                                     \
    /* Who is in the job. */                                                   \
    X(job, STRING, "gradpush", NULL, 0, 0, 0,                                  \
      "identity of the job; members of different jobs refuse each other")      \
    X(token, STRING, "", NULL, 0, 0, 1,                                        \
      "secret that proves membership; empty accepts anyone with the job name") \
    X(token_file, STRING, "", NULL, 0, 0, 0,                                   \
      "file (mode 0600) holding the token; preferred over the variable")       \
    X(rank, INT, "-1", NULL, -1, 1048575, 0,                                   \
      "this worker's number; -1 takes it from the launcher")                   \
    X(size, INT, "-1", NULL, -1, 1048576, 0,                                   \
      "number of workers; -1 takes it from the launcher")                      \
    X(shards, INT, "-1", NULL, -1, 65536, 0,                                   \
      "number of shards in the job; -1: one per worker when co-located")       \
    X(local_shards, INT, "1", NULL, 1, 1024, 0,                                \
      "shards hosted by one server process")                                   \
    X(first_shard, INT, "-1", NULL, -1, 65535, 0,                              \
      "number of a server's first shard; -1 takes the next free one")          \
    X(colocated, ENUM, "auto", "auto|on|off", 0, 0, 0,                         \
      "host a shard in each worker; auto: when no stand-alone ones exist")     \
    X(shard_weights, STRING, "equal", NULL, 0, 0, 0,                           \
      "shares of the shards: equal, auto (by the rates of links), measured "   \
      "(by rates that a job measures when it begins), or a number for each, "  \
      "such as 4,4,1")                                                         \
    X(link_mbits, INT, "0", NULL, 0, 100000000, 0,                             \
      "Mbit/s of this process's link, for shard_weights=auto; 0: as its "      \
      "interface says")                                                        \
    X(servers, STRING, "", NULL, 0, 0, 0,                                      \
      "shard addresses host:port,... in shard order; empty: ask the store")    \
    X(store, STRING, "", NULL, 0, 0, 0,                                        \
      "host:port of the store where members find each other")                  \
    X(store_host, ENUM, "auto", "auto|on|off", 0, 0, 0,                        \
      "host the store in this process; auto: rank 0 unless a launcher does")   \
    X(incarnation, INT, "0", NULL, 0, 1000000, 0,                              \
      "how often this member was restarted; an older one is fenced off")       \
    X(epoch, INT, "0", NULL, 0, 1000000000, 0,                                 \
      "membership epoch the job starts with")                                  \
    X(elastic, ENUM, "off", "on|off", 0, 0, 0,                                 \
      "workers may die, leave and join while the job runs; size is then the "  \
      "most there can be")                                                     \
    X(min_workers, INT, "1", NULL, 1, 1048576, 0,                              \
      "with elastic: so many must be there for the next step to begin")        \
    X(max_workers, INT, "0", NULL, 0, 1048576, 0,                              \
      "with elastic: so many take part at most, and others wait until one "    \
      "leaves; 0: as many as size")                                            \
    /* How bytes move. */                                                      \
    X(transport, STRING, "auto", NULL, 0, 0, 0,                                \
      "auto, tcp, verbs, loop, or the name of a registered transport")         \
    X(listen, STRING, "", NULL, 0, 0, 0,                                       \
      "host:port on which shards listen; empty: all interfaces, any port")     \
    X(advertise, STRING, "", NULL, 0, 0, 0,                                    \
      "host that others use to reach this process; empty: detected")           \
    X(interface, STRING, "", NULL, 0, 0, 0,                                    \
      "network interface for the detected address, as in NCCL_SOCKET_IFNAME")  \
    X(sockets, INT, "1", NULL, 1, 16, 0,                                       \
      "tcp connections per peer")                                              \
    X(checksum, ENUM, "auto", "auto|on|off", 0, 0, 0,                          \
      "CRC32C of payloads; auto: on for tcp between hosts")                                  \
    X(send_buffer, SIZE, "0", NULL, 0, 1073741824, 0,                          \
      "SO_SNDBUF of tcp sockets; 0: 384K within one host, else the kernel's")  \
    X(receive_buffer, SIZE, "0", NULL, 0, 1073741824, 0,                       \
      "SO_RCVBUF of tcp sockets; 0 leaves it to the kernel")                   \
    X(chunk_bytes, SIZE, "512K", NULL, 16384, 67108864, 0,                       \
      "largest piece of a tensor that one shard owns, in fp32 bytes")          \
    X(slots, INT, "4", NULL, 1, 64, 0,                                         \
      "chunks that each worker may have under way to a shard")                 \
    X(shard_device, STRING, "cpu", NULL, 0, 0, 0,                              \
      "where shards add and update: cpu, cuda, cuda:N, auto (cuda if there "   \
      "is one), cuda:all (shards take turns), or a list such as "              \
      "cuda:0,cuda:2")                                                         \
    X(rows_memory, SIZE, "4G", NULL, 65536, 1125899906842624, 0,                \
      "most bytes that the rows of a shard may take, with their state")         \
    X(collective_algorithm, ENUM, "auto", "auto|direct|halving|ring|shards", 0, 0, 0,   \
      "how workers reduce among themselves; auto: by size and members")        \
    X(spin, SECONDS, "50us", NULL, 0, 1, 0,                                    \
      "how long a waiting thread polls before it sleeps")                      \
    /* How verbs moves them. */                                                \
    X(ib_disable, INT, "0", NULL, 0, 1, 0,                                     \
      "1: transport auto never takes verbs")                                   \
    X(ib_hca, STRING, "", NULL, 0, 0, 0,                                       \
      "RDMA devices and ports to use, such as mlx5_0:1,mlx5_2; names are "     \
      "beginnings; = in front: whole names; ^ in front: all but these")        \
    X(ib_gid_index, INT, "-1", NULL, -1, 255, 0,                               \
      "entry of the GID table to use; -1: RoCE v2 and IPv4 first")             \
    X(ib_traffic_class, INT, "-1", NULL, -1, 255, 0,                           \
      "traffic class of verbs packets, DSCP times 4; -1 leaves it to the "     \
      "system")                                                                \
    X(ib_timeout, INT, "18", NULL, 1, 31, 0,                                   \
      "wait for an acknowledgement before it is sent again: 4.096 us * 2^n")   \
    X(ib_retries, INT, "7", NULL, 0, 7, 0,                                     \
      "how often it is sent again before the queue pair fails")                \
    X(ib_rails, INT, "1", NULL, 1, 4, 0,                                       \
      "RDMA devices used per peer, of shards that listen on all interfaces")   \
    X(ib_qps, INT, "1", NULL, 1, 16, 0,                                        \
      "queue pairs per peer and device")                                       \
    X(ib_notify, ENUM, "auto", "auto|send|imm", 0, 0, 0,                       \
      "what tells the receiver that a payload was written: a message behind "  \
      "it, or immediate data; auto: a message, and where its header follows "  \
      "from one before, 32 bits with the payload")                             \
    X(ib_adaptive_routing, INT, "-1", NULL, -1, 1, 0,                          \
      "1: that message is one of its own behind payloads above 8 KiB, so "     \
      "that switches may send these each packet its own way; -1: on "          \
      "InfiniBand")                                                            \
    X(ib_frames, INT, "64", NULL, 16, 1024, 0,                                 \
      "receives posted per queue pair")                                        \
    X(ib_frame, SIZE, "2K", NULL, 512, 65536, 0,                               \
      "bytes of each of them, the longest message that is not written")        \
    X(ib_queue, INT, "256", NULL, 32, 8192, 0,                                 \
      "work requests that a send queue holds")                                 \
    X(ib_eager, SIZE, "256", NULL, 0, 4096, 0,                                 \
      "payloads up to this travel with their header instead of a WRITE")       \
    X(ib_piece, SIZE, "1M", NULL, 4096, 1073741824, 0,                         \
      "longest single WRITE; payloads above it are cut")                       \
    X(ib_windows, ENUM, "auto", "auto|on|off", 0, 0, 0,                        \
      "memory windows for what a peer may write to; auto: where there are "    \
      "any")                                                                   \
    X(ib_domains, ENUM, "peer", "peer|shared", 0, 0, 0,                        \
      "protection domains: one for each peer, or one for all")                 \
    X(ib_relaxed, ENUM, "auto", "auto|on|off", 0, 0, 0,                        \
      "relaxed ordering for payload memory; auto: where the device knows "     \
      "it")                                                                    \
    X(ib_reconnect, SECONDS, "2s", NULL, 0, 600, 0,                            \
      "how long a lost queue pair may take to come back; 0: the peer is "      \
      "lost")                                                                  \
    X(ib_rail_reconnect, SECONDS, "600s", NULL, 0, 86400, 0,                   \
      "the same while the peer can be reached by another, which carries all "  \
      "meanwhile; GRADPUSH_IB_RECONNECT at least")                             \
    X(gdr_dmabuf, ENUM, "try", "no|try|yes", 0, 0, 0,                          \
      "DMA-BUF, by which RDMA devices reach memory of GPUs themselves; yes: "  \
      "it is an error where that cannot be")                                   \
    X(gdr_peermem, ENUM, "try", "no|try|yes", 0, 0, 0,                         \
      "the same by the module nvidia-peermem, where DMA-BUF cannot be; "       \
      "without both, data goes through the host's memory")                     \
    X(gdr_flush, ENUM, "auto", "auto|on|off", 0, 0, 0,                         \
      "flush what RDMA devices wrote into a GPU before it is read there; "     \
      "auto: where the driver says that this is needed")                       \
    /* What is done with gradients. */                                         \
    X(codec, STRING, "none", NULL, 0, 0, 0,                                    \
      "pipeline for pushes, such as q8+lz4; auto: the fastest, measured")      \
    X(pull_codec, STRING, "none", NULL, 0, 0, 0,                               \
      "pipeline for pulls")                                                    \
    X(codec_rules, STRING, "", NULL, 0, 0, 0,                                  \
      "pipelines for pushes by tensor, first match first: "                    \
      "'*.bias => none; count<4096 => none; fc* & matrix => topk:0.01'")       \
    X(codec_warmup, INT, "0", NULL, 0, 1000000000, 0,                          \
      "first steps of each tensor that go dense whatever its pipeline")        \
    X(codec_candidates, STRING, "bf16|q8|q4|topk:0.01+q8+rice", NULL, 0, 0, 0, \
      "what codec=auto chooses from, beside none: at most 7 between '|'")      \
    X(codec_threads, INT, "1", NULL, 1, 64, 0,                                 \
      "threads that encode chunks of one tensor at once, in each worker")      \
    X(experiment, STRING, "", NULL, 0, 0, 0,                                   \
      "file for a JSON line per tensor and step: bytes, times, errors; %r is " \
      "the rank, without it rank 0 writes; gradients travel twice")            \
    X(updater, STRING, "mean", NULL, 0, 0, 0,                                  \
      "what shards do with pushes: sum, mean, sgd:lr=0.1,momentum=0.9, "       \
      "adam:lr=1e-3,warmup=100 (updaters.md)")                                 \
    X(mode, STRING, "sync", NULL, 0, 0, 0,                                     \
      "who waits for whom: sync, sync:N-1, ssp:4, async or local:16")          \
    X(seed, INT, "1", NULL, 0, 9007199254740991, 0,                            \
      "seed of random codecs, the same on all workers")                        \
    /* When to give up. */                                                     \
    X(timeout, SECONDS, "60s", NULL, 0.001, 86400, 0,                          \
      "longest wait for an operation")                                         \
    X(connect_timeout, SECONDS, "30s", NULL, 0.001, 86400, 0,                  \
      "longest wait for the members of the job at start")                      \
    X(handshake_timeout, SECONDS, "5s", NULL, 0.001, 600, 0,                   \
      "a peer that connects must say who it is within this time")              \
    X(keepalive, SECONDS, "3s", NULL, 0, 600, 0,                               \
      "a silent host is declared dead after this time; 0: never")              \
    /* What is said. */                                                        \
    X(straggler_threshold, SECONDS, "500ms", NULL, 0, 86400, 0,                \
      "a worker whose pushes come so much after the first one's is logged; "   \
      "0: never")                                                              \
    X(log, ENUM, "warn", "none|error|warn|info|debug|trace", 0, 0, 0,          \
      "lowest severity that is logged")                                        \
    X(log_file, STRING, "", NULL, 0, 0, 0,                                     \
      "file for log lines; %h is the host, %p the process; empty: stderr")     \
    X(config, STRING, "", NULL, 0, 0, 0,                                       \
      "file of name = value lines, read before the environment")

/*
 * The variables of NCCL that mean the same, X(name, variable): read where the
 * field's own variable is not set.
 */
#define GP_CONFIG_ALIASES(X)                                                   \
    X(ib_disable, "NCCL_IB_DISABLE")                                           \
    X(ib_hca, "NCCL_IB_HCA")                                                   \
    X(ib_gid_index, "NCCL_IB_GID_INDEX")                                       \
    X(ib_traffic_class, "NCCL_IB_TC")                                          \
    X(ib_adaptive_routing, "NCCL_IB_ADAPTIVE_ROUTING")                         \
    X(ib_timeout, "NCCL_IB_TIMEOUT")                                           \
    X(ib_retries, "NCCL_IB_RETRY_CNT")                                         \
    X(ib_qps, "NCCL_IB_QPS_PER_CONNECTION")
/* clang-format on */

#endif
