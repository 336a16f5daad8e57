import Testing

/// A small library in C that is loaded into a daemon before all others, and stands between it and the system.
final class Preloaded {
  private let folder: TemporaryFolder

  /// - Parameter source: in C.
  init(_ source: String) async throws {
    folder = try TemporaryFolder()
    let file = try folder.write("library.c", source.utf8)
    let compiled = try await Running("/usr/bin/env", ["clang", "-shared", "-fPIC", "-O1", "-o", path, file])
      .end()
    try #require(compiled.status == 0, "\(compiled.stderr)")
  }

  /// Where the compiled library is, for `LD_PRELOAD`.
  var path: String { "\(folder.path)/library.so" }
}
