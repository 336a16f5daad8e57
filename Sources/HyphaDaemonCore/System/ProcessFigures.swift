import Glibc

/// What the kernel says of this process, by the names that Prometheus's own clients use.
enum ProcessFigures {
  static func write(to text: inout MetricsText) {
    if let pages = residentPages {
      text.add(.gauge, "process_resident_memory_bytes", pages * Double(sysconf(Int32(_SC_PAGESIZE))))
    }
    var usage = rusage()
    if getrusage(RUSAGE_SELF.rawValue, &usage) == 0 {
      text.add(.counter, "process_cpu_seconds_total", seconds(usage.ru_utime) + seconds(usage.ru_stime))
    }
    if let count = openDescriptors { text.add(.gauge, "process_open_fds", Double(count)) }
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      text.add(.gauge, "process_max_fds", Double(limit.rlim_cur))
    }
  }

  private static func seconds(_ time: timeval) -> Double {
    Double(time.tv_sec) + Double(time.tv_usec) / 1e6
  }

  /// The second number of `/proc/self/statm`.
  private static var residentPages: Double? {
    do throws(SystemError) {
      let file = try FileDescriptor("/proc/self/statm", O_RDONLY)
      let text = String(decoding: try file.read(upTo: 256, "read statm"), as: UTF8.self)
      return text.split(separator: " ").dropFirst().first.flatMap { Double($0) }
    } catch {
      return nil
    }
  }

  private static var openDescriptors: Int? {
    guard let folder = opendir("/proc/self/fd") else { return nil }
    defer { closedir(folder) }
    // “.”, “..” and the folder's own descriptor are none.
    var count = -3
    while readdir(folder) != nil { count += 1 }
    return count
  }
}
