import Glibc

/// Standard input, output and error of a program.
public enum StandardStreams {
  /// Opens nothing in the place of those that are closed: no file and no connection is to have their numbers, or what is printed
  /// would be written to it.
  public static func hold() {
    for stream in STDIN_FILENO...STDERR_FILENO where fcntl(stream, F_GETFD) < 0 {
      _ = open("/dev/null", O_RDWR)
    }
  }
}
