import ArgumentParser
import Glibc
import HyphaControlAPI
import HyphaDaemonCore
import Logging

@main
struct Hyphad: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "hyphad",
    abstract: "Keeps a hypha: stores, serves and replicates it.",
    discussion: "Runs in the foreground and logs to standard error. hyphactl(1) talks to it. See hyphad(8).",
    version: "hyphad \(ControlAPI.release)")

  @Option(help: "The configuration file.")
  var config = Configuration.defaultPath

  @Flag(help: "Read the configuration, say whether it is good, and end.")
  var checkConfig = false

  func run() async throws {
    StandardStreams.hold()
    let configuration: Configuration
    do throws(ConfigurationError) {
      configuration = try Configuration(file: config)
    } catch {
      Self.end("hyphad: \(error)", status: EX_CONFIG)
    }
    if checkConfig {
      print("\(config) is good.")
      return
    }
    let log = LogThreshold.bootstrap(level: configuration.log.level)
    let logger = Logger(label: "hyphad")
    // What nobody fetches is not counted.
    let metrics = configuration.metrics.address.map { _ in MetricsRegistry.bootstrap() }
    do {
      let daemon = Daemon(
        configuration, file: config, metrics: metrics, log: log, logger: logger)
      if case .failure(let error) = try await daemon.run() {
        Self.end("hyphad: stopped because \(error)", status: EX_IOERR)
      }
    } catch {
      logger.critical("Cannot start: \(error)")
      // What the settings say, and whose the state folder is, stays so until somebody changes it: no reason to try again.
      let isSettings =
        error is CertificateError || error is InheritedSocketError
        || (error as? NodeError)?.code == .credential
        || [.newer, .unsuitable].contains((error as? StateFolderError)?.code)
      Glibc.exit(isSettings ? EX_CONFIG : EXIT_FAILURE)
    }
  }

  /// Says why on standard error, and ends.
  private static func end(_ reason: String, status: Int32) -> Never {
    let line = Array((reason + "\n").utf8)
    _ = write(STDERR_FILENO, line, line.count)
    Glibc.exit(status)
  }
}
