import Logging

/// Reads the settings anew while the node runs (SIGHUP), and hands them to what can take them over.
struct Reload: Sendable {
  /// Of the configuration.
  let file: String
  /// What systemd shows before and after.
  let status: String
  let logger: Logger
  /// Takes over what can change.
  let apply: @Sendable (Configuration) -> Void

  /// A file that cannot be used changes nothing.
  func callAsFunction() {
    ServiceManager.reloading()
    defer { ServiceManager.ready(status: status) }
    let new: Configuration
    do throws(ConfigurationError) { new = try Configuration(file: file) } catch {
      logger.error("Not reloaded: the settings of before stay", metadata: ["reason": "\(error)"])
      return
    }
    apply(new)
    logger.notice("Reloaded", metadata: ["settings": "\(file)"])
  }
}
