/// A bar on the terminal that shows how far something is; without a terminal, nothing.
final class Progress {
  private let label: String
  private let isShown: Bool
  private var last = -1

  init(_ label: String, isShown: Bool = Console.errorIsTerminal) {
    self.label = label
    self.isShown = isShown
  }

  func show(_ done: UInt64, of total: UInt64) {
    guard isShown else { return }
    let percent = total == 0 ? 100 : Int(Double(done) / Double(total) * 100)
    guard percent != last else { return }
    last = min(percent, 100)
    let full = last / 4
    Console.rewrite(
      "\(label) [\(String(repeating: "#", count: full))\(String(repeating: "-", count: 25 - full))] \(last) %"
    )
  }

  /// Takes the bar away.
  func end() {
    guard isShown, last >= 0 else { return }
    last = -1
    Console.rewrite("")
  }
}
