import Hypercore
import Hypha
import HyphaControlAPI

/// Feeds whose owner signed two versions of them: a device that was copied or set back, or means harm. They are frozen where
/// the two part, as far as this node knows, and the evidence is kept.
extension Node {
  /// Freezes what was found to be forked before.
  func freezeForked() throws(NodeError) {
    for evidence in try files.readForks() { hypha?.freeze(evidence.key, at: evidence.common) }
  }

  /// Takes in what a peer has shown.
  func take(_ fork: Fork, of key: PublicKey, common: UInt64) {
    guard let hypha, common < hypha.frozen(key) ?? .max else { return }
    do throws(NodeError) {
      try files.write(ForkEvidence(key: key, fork: fork, common: common))
    } catch {
      return fail(error)
    }
    hypha.freeze(key, at: common)
    let isOwn = hypha.database.local?.key == key
    logger.error(
      isOwn
        ? "This device's feed was signed in two versions, here and elsewhere: this device may not write any longer"
        : "A feed was signed in two versions: what comes after the blocks that both have counts no longer",
      metadata: ["feed": "\(key.hex)", "blocks": "\(common)"])
    recordEvent(.forked) {
      $0.feed = key.hex
      $0.blocks = common
    }
  }
}
