import Logging

/// Reads the settings anew while the node runs (SIGHUP), and hands them to what can take them over.
struct Reload: Sendable {
  /// Of the configuration.
  let file: String
  /// What the daemon started with.
  let begun: Configuration
  let logger: Logger
  /// Takes over what can change.
  let apply: @Sendable (Configuration) async -> Void

  /// A file that cannot be used changes nothing.
  func callAsFunction() async {
    ServiceManager.reloading()
    defer { ServiceManager.ready() }
    let new: Configuration
    do throws(ConfigurationError) { new = try Configuration(file: file) } catch {
      logger.error("Not reloaded: the settings of before stay", metadata: ["reason": "\(error)"])
      return
    }
    await apply(new)
    logger.notice("Reloaded", metadata: ["settings": "\(file)"])
    let later = begun.changesForTheNextStart(new)
    if !later.isEmpty {
      logger.warning(
        "Some settings have changed that are read at the start alone: restart hyphad",
        metadata: ["settings": "\(later.joined(separator: ", "))"])
    }
  }
}
