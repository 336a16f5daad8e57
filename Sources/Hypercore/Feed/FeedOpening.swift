/// Opening: what is on disk decides, and only what verifies counts.
///
/// The bitfield is written after a sync of the other three files, so what it claims is there; it may claim
/// too little. From its length on, blocks that are on disk and lead to a signature are taken in; what follows
/// them was never acknowledged and is cut off.
///
/// What is taken in although the bitfield does not claim it is written anew: a sync of it may have failed before, after which the
/// system shows it and no longer writes it.
extension Feed {
  /// The pair whose secret key is stored beside the feed.
  ///
  /// - Returns: `nil` where none is stored.
  static func storedKeyPair(_ files: FeedFiles<Storage>, for key: PublicKey) throws(FeedError) -> KeyPair? {
    guard try files.secretKey.byteCount() >= 64 else { return nil }
    var secret = try files.secretKey.bytes(64, at: 0)
    defer { secret.withMutableBytes { SecretBytes.wipe($0) } }
    // Its second half is the public key.
    if isUnfinished(secret[32...], of: key.bytes) { return nil }
    guard let pair = KeyPair.stored(secret) else {
      throw FeedError(.wrongKey, "the stored secret key of feed \(key.hex) is damaged")
    }
    guard pair.publicKey == key else {
      throw FeedError(.wrongKey, "the stored secret key does not belong to feed \(key.hex)")
    }
    return pair
  }

  /// Whether nothing of the feed is known to have been durable.
  static func isUnclaimed(_ files: FeedFiles<Storage>) throws(FeedError) -> Bool {
    try files.bitfield.byteCount() <= UInt64(SleepHeader.size)
  }

  /// Whether these are a part of the expected bytes, or nothing of them, and then zeros: what a power cut can leave of a file's first
  /// write where the file has its size before its contents, or where there had been room for a part only.
  private static func isUnfinished(_ stored: some Collection<UInt8>, of expected: [UInt8]) -> Bool {
    let written = zip(stored, expected).prefix { $0 == $1 }.count
    return written < expected.count && stored.dropFirst(written).allSatisfy { $0 == 0 }
  }

  /// Forgets a feed whose making a power cut ended, so that the beginning of a file is not as it is to be.
  /// Nothing of it was durable, or else the bitfield, which is written last, would claim something.
  static func clearUnfinished(_ files: FeedFiles<Storage>, _ key: PublicKey) throws(FeedError) {
    guard try isUnclaimed(files) else { return }
    var isCut = false
    for (file, beginning) in [
      (files.key, key.bytes), (files.tree, SleepHeader.tree.bytes),
      (files.signatures, SleepHeader.signatures.bytes),
    ] where try file.byteCount() >= UInt64(beginning.count) {
      if isUnfinished(try file.bytes(beginning.count, at: 0), of: beginning) { isCut = true }
    }
    guard isCut else { return }
    // Where the key goes first, its loss could not be told from damage to a feed that had blocks.
    for file in [files.tree, files.signatures, files.data] {
      try file.cut(to: 0)
      try file.settle()
    }
    try files.key.cut(to: 0)
  }

  /// Writes the public key into a new feed, and refuses the files of another.
  ///
  /// - Parameter rewrites: write it anew where it is there, since it may not be durable.
  static func checkKey(_ files: FeedFiles<Storage>, _ key: PublicKey, rewrites: Bool) throws(FeedError) {
    if try files.key.byteCount() >= 32 {
      let stored = try files.key.bytes(32, at: 0)
      guard stored == key.bytes else {
        throw FeedError(
          .wrongKey, "another feed, \(Hex.encode(stored)), is stored where \(key.hex) should be")
      }
      // Who wrote it may have been stopped before its sync.
      guard rewrites else { return try files.key.settle() }
    } else {
      guard try files.tree.byteCount() <= UInt64(SleepHeader.size) else {
        throw FeedError(.damaged, "feed \(key.hex): the key file is missing but the tree file is not")
      }
    }
    try files.key.put(key.bytes, at: 0)
    try files.key.settle()
  }

  /// Finds the length from what verifies.
  func recover() throws(FeedError) {
    try loadBitfield()
    let claimed = bits.length
    try adoptNewest(upTo: claimed)
    // Also where only tree bits say more: a node is marked as held once the last one below it is. Of a long feed of which there
    // is little the pages may end before the feed does.
    if claimed > length || bits.first(held: true, in: length..<max(length, bits.coveredBlocks)) != nil {
      bits.truncate(to: length)
    }
    try mendTreeBits()
    try findUnmarked()
    let before = length
    try takeInFollowing()
    try takeInLater(claimed)
    if length > before || recovery.foundBlocks > 0 { try findUnmarked() }
    if length < claimed {
      // A clone lost nothing that a peer does not have. A writer would sign other blocks in their place.
      if isWritable {
        throw damaged(
          "it had \(claimed) blocks, but no signature behind block \(length) verifies with what is on disk")
      }
      if length == 0 { throw damaged("none of the newest signatures verifies") }
      recovery.cutBlocks = claimed - length
    }
    try cutTail()
    if recovery != Recovery() {
      markChanged()
      try flush(durable: true)
    }
  }

  private func loadBitfield() throws(FeedError) {
    let file = files.bitfield
    guard try SleepHeader.bitfield.isAt(file) else {
      // Another page size, or damage: everything in it can be found again from the other files.
      try file.cut(to: 0)
      try file.put(SleepHeader.bitfield.bytes, at: 0)
      return
    }
    let start = UInt64(SleepHeader.size)
    let pageSize = UInt64(FeedBitfield.pageSize)
    let pageCount = (try file.byteCount() - start) / pageSize
    guard pageCount <= Limits.feedBlocks / FeedBitfield.blocksPerPage else {
      throw damaged("the bitfield file is impossibly long")
    }
    for number in 0..<pageCount {
      let page = try file.bytes(FeedBitfield.pageSize, at: start + number * pageSize)
      page.withUnsafeBytes { bits.load(page: number, $0) }
    }
    bits.pages.clearChanged()
  }

  /// Takes the newest length that verifies, up to the one that the bitfield's tree bits say. They may say one that was never
  /// signed: a page of them is written in pieces.
  private func adoptNewest(upTo claimed: UInt64) throws(FeedError) {
    guard let roots = try newestSigned(above: 0, upTo: claimed) else { return }
    for root in roots.nodes { bits.setNode(root.treeIndex) }
    adopt(roots)
  }

  /// The newest roots within these lengths that are there and signed. Blocks that came together have one signature, which can be far
  /// behind the first of them.
  func newestSigned(above lowest: UInt64, upTo highest: UInt64) throws(FeedError) -> MerkleRoots? {
    var found: MerkleRoots?
    try visitSignedLengths(above: lowest, upTo: highest) { (length) throws(FeedError) in
      found = try signedRoots(length: length)
      return found == nil
    }
    return found
  }

  /// The lengths within these at which there is something where a signature would be, newest first, as many as are looked at.
  ///
  /// - Parameter goesOn: called with each, until it says no.
  private func visitSignedLengths(
    above lowest: UInt64, upTo highest: UInt64, _ goesOn: (UInt64) throws(FeedError) -> Bool
  ) throws(FeedError) {
    var end = min(highest, try signedPlaces())
    let last = max(lowest, end - min(end, Limits.signatureScan))
    var tried = 0
    while end > last {
      let first = max(last, end - min(end, Limits.signaturesAtOnce))
      for length in try signedLengths(from: first, to: end).reversed() {
        guard try goesOn(length) else { return }
        tried += 1
        if tried >= Limits.signatureSearch { return }
      }
      end = first
    }
  }

  /// Marks the tree nodes that lead from the roots to what is held. A page of the bitfield is written in pieces, so that a power
  /// cut may leave a block's mark and not those of the nodes that prove it.
  private func mendTreeBits() throws(FeedError) {
    var waiting: [UInt64] = []
    for root in merkle.nodes { waiting.append(root.treeIndex) }
    while let treeIndex = waiting.popLast() {
      let blocks = FlatTree.leftSpan(treeIndex) / 2..<FlatTree.rightSpan(treeIndex) / 2 + 1
      guard let (left, right) = FlatTree.children(treeIndex), !bits.hasAllNodes(belowEight: treeIndex),
        bits.first(held: true, in: blocks) != nil
      else {
        // Whether something on disk proves it is seen to when all that is not marked is looked for.
        if !bits.hasNode(treeIndex), treeIndex & 1 == 0 { bits.clearBlock(treeIndex / 2) }
        continue
      }
      if bits.hasNode(treeIndex), !bits.hasNode(left) || !bits.hasNode(right) {
        // Where they were never there, an older signature proves what is below.
        if let parent = try pages.node(treeIndex), let first = try pages.node(left),
          let second = try pages.node(right), first.byteSize <= parent.byteSize,
          second.byteSize == parent.byteSize - first.byteSize, Crypto.parent(first, second) == parent.hash
        {
          for node in [first, second] {
            try pages.set(node)
            bits.setNode(node.treeIndex)
          }
          recovery.markedNodes += 2
        }
      }
      waiting.append(left)
      waiting.append(right)
    }
  }

  /// The roots over the first `length` blocks, if they are all there and signed.
  func signedRoots(length: UInt64) throws(FeedError) -> MerkleRoots? {
    guard let signature = try signature(at: length - 1) else { return nil }
    var nodes: [Node] = []
    var room = Limits.feedBytes
    for treeIndex in FlatTree.roots(length: length) {
      guard let node = try pages.node(treeIndex), node.byteSize <= room else { return nil }
      room -= node.byteSize
      nodes.append(node)
    }
    return Crypto.verify(signature, of: Crypto.tree(nodes), by: key) ? MerkleRoots(nodes) : nil
  }

  /// Number of places in the signatures file.
  private func signedPlaces() throws(FeedError) -> UInt64 {
    (try files.signatures.byteCount() - UInt64(SleepHeader.size)) / 64
  }

  /// Takes in the blocks that follow a wholly held feed, up to the last one that a signature covers.
  private func takeInFollowing() throws(FeedError) {
    let places = try signedPlaces()
    guard bits.heldBlocks == length, places > length else { return }
    let dataSize = try files.data.byteCount()
    var roots = merkle
    var end = byteLength
    var nodes: [Node] = []
    // Their bytes stay on disk: without the bitfield, they can be all of a feed.
    var blocks: [(offset: UInt64, size: Int)] = []
    // Signatures of which a part is there.
    var torn: [UInt64] = []
    // A writer may lose none: it would sign others in their place.
    while roots.length < places, isWritable || blocks.count < Limits.recoveryBatch {
      let index = roots.length
      guard let leaf = try pages.node(2 * index), leaf.byteSize <= UInt64(Limits.blockBytes),
        end <= dataSize, leaf.byteSize <= dataSize - end
      else { return }
      let block = try files.data.bytes(Int(leaf.byteSize), at: end)
      guard block.withUnsafeBytes({ Crypto.leaf($0) }) == leaf.hash else { return }
      roots.append(leaf) { nodes.append($0) }
      blocks.append((end, block.count))
      end += leaf.byteSize
      guard let signature = try signature(at: index) else { continue }
      guard Crypto.verify(signature, of: Crypto.tree(roots.nodes), by: key) else {
        torn.append(index)
        continue
      }
      for node in nodes { try pages.set(node) }
      for (offset, size) in blocks {
        let bytes = try files.data.bytes(size, at: offset)
        try bytes.withBytes { (bytes) throws(FeedError) in try dataWriter.write(bytes, at: offset) }
      }
      try store(signature, at: index)
      for index in torn { try removeSignature(at: index) }
      bits.set(length..<roots.length)
      // Each of them: below one that is not marked there can be one that is, of a page of which only a piece was written.
      for node in nodes { bits.setNode(node.treeIndex) }
      torn.removeAll()
      nodes.removeAll(keepingCapacity: true)
      blocks.removeAll(keepingCapacity: true)
      recovery.foundBlocks += roots.length - length
      adopt(roots)
    }
  }

  /// Takes the newest length beyond, whose roots are there and signed, of a feed held in part. A writer's is, too, where it fetches
  /// what it wrote before: the bitfield then claims more than is here of the writer's own.
  private func takeInLater(_ claimed: UInt64) throws(FeedError) {
    guard !isWritable || length < claimed || bits.heldBlocks < length,
      let roots = try newestSigned(above: length, upTo: .max),
      let signature = try signature(at: roots.length - 1)
    else { return }
    for root in roots.nodes {
      try pages.set(root)
      bits.setNode(root.treeIndex)
    }
    try store(signature, at: roots.length - 1)
    try mendSignatures(above: length, below: roots.length)
    recovery.foundBlocks += 1
    adopt(roots)
  }

  /// Writes anew what is passed over as the feed is taken to be longer, and empties the places of which a power cut left something else.
  private func mendSignatures(above lowest: UInt64, below end: UInt64) throws(FeedError) {
    try visitSignedLengths(above: lowest, upTo: end - 1) { (length) throws(FeedError) in
      if let signature = try signature(at: length - 1), try signedRoots(length: length) != nil {
        try store(signature, at: length - 1)
      } else {
        try removeSignature(at: length - 1)
      }
      return true
    }
  }

  /// Marks blocks as held that are on disk and lead to a trusted node. An empty block leaves no trace in the data file, so a
  /// clone fetches it again; a writer made it.
  private func findUnmarked() throws(FeedError) {
    guard bits.heldBlocks < length else { return }
    let dataSize = try files.data.byteCount()
    var older = OlderSignatures()
    var wasted = 0
    var index: UInt64 = 0
    let gap = firstMissing(in: 0..<length) ?? length
    let end = isWritable ? length : min(length, gap + Limits.recoveryScan)
    while let missing = firstMissing(in: index..<end) {
      index = missing + 1
      guard let leaf = try pages.node(2 * missing), isWritable || leaf.byteSize > 0,
        leaf.byteSize <= UInt64(Limits.blockBytes), let offset = try knownOffset(of: missing),
        offset <= dataSize,
        leaf.byteSize <= dataSize - offset
      else { continue }
      guard isWritable || wasted < Limits.recoveryWaste else { break }
      let block = try files.data.bytes(Int(leaf.byteSize), at: offset)
      guard block.withUnsafeBytes({ Crypto.leaf($0) }) == leaf.hash else {
        wasted += block.count
        continue
      }
      if let path = try storedPath(from: 2 * missing),
        try takeIn(block, at: missing, Proof(nodes: path, signature: nil))
      {
        continue
      }
      if let proof = try olderProof(from: 2 * missing, &older) { _ = try takeIn(block, at: missing, proof) }
    }
    forgetOffsets()
  }

  /// - Returns: `nil` where what tells is missing or damaged.
  private func knownOffset(of index: UInt64) throws(FeedError) -> UInt64? {
    do throws(FeedError) { return try byteOffset(of: index) } catch {
      guard error.code == .damaged else { throw error }
      return nil
    }
  }

  /// - Returns: whether the block is held now; not where what is on disk was damaged, or is only the rest of something.
  private func takeIn(_ block: [UInt8], at index: UInt64, _ proof: Proof) throws(FeedError) -> Bool {
    do throws(FeedError) { try put(block, at: index, proof: proof) } catch {
      guard [.badProof, .badSignature, .tooLarge].contains(error.code) else { throw error }
      return false
    }
    recovery.foundBlocks += 1
    return true
  }

  /// Siblings on disk from a leaf up to the first trusted node.
  private func storedPath(from leaf: UInt64) throws(FeedError) -> [Node]? {
    var path: [Node] = []
    var treeIndex = leaf
    while !bits.hasNode(treeIndex) {
      guard FlatTree.depth(treeIndex) < 41, let sibling = try pages.node(FlatTree.sibling(treeIndex)) else {
        return nil
      }
      path.append(sibling)
      treeIndex = FlatTree.parent(treeIndex)
    }
    return path
  }

  /// The proof of a block that came when the feed was shorter, and that no nodes link to its roots of now.
  private func olderProof(from leaf: UInt64, _ older: inout OlderSignatures) throws(FeedError) -> Proof? {
    var path: [Node] = []
    var treeIndex = leaf
    while FlatTree.depth(treeIndex) < 41, FlatTree.rightSpan(treeIndex) / 2 < length {
      let sibling = FlatTree.sibling(treeIndex)
      // It is a root of feeds that end before its sibling does.
      if sibling > treeIndex, let signedLength = try signedLength(withRoot: treeIndex, &older),
        let roots = try signedRoots(length: signedLength), let signature = try signature(at: signedLength - 1)
      {
        for root in roots.nodes where root.treeIndex != treeIndex { path.append(root) }
        return Proof(nodes: path, signature: signature)
      }
      guard let node = try pages.node(sibling) else { return nil }
      path.append(node)
      treeIndex = FlatTree.parent(treeIndex)
    }
    return nil
  }

  /// A length of which a signature is here, of a feed that had a node as a root; sought once for each node.
  private func signedLength(
    withRoot treeIndex: UInt64, _ older: inout OlderSignatures
  ) throws(FeedError) -> UInt64? {
    if let known = older.byRoot[treeIndex] { return known > 0 ? known : nil }
    if older.lengths == nil { older.lengths = try olderLengths() }
    let lengths = older.lengths ?? []
    let end = min(length, FlatTree.rightSpan(FlatTree.sibling(treeIndex)) / 2)
    var place = lengths.firstPlace { $0 > FlatTree.rightSpan(treeIndex) / 2 }
    var found: UInt64 = 0
    while place < lengths.count, lengths[place] <= end, found == 0, older.tried < Limits.olderSignatures {
      let length = lengths[place]
      if older.isGood[length] == nil {
        older.tried += 1
        older.isGood[length] = try signedRoots(length: length) != nil
      }
      if older.isGood[length] == true { found = length }
      place += 1
    }
    older.byRoot[treeIndex] = found
    return found > 0 ? found : nil
  }

  /// The lengths of this feed when it was shorter at which there is something where a signature would be, in ascending order.
  private func olderLengths() throws(FeedError) -> [UInt64] {
    var lengths: [UInt64] = []
    let end = min(length, try signedPlaces(), Limits.signatureScan)
    for first in stride(from: 0, to: end, by: Int(Limits.signaturesAtOnce)) {
      lengths += try signedLengths(from: first, to: min(end, first + Limits.signaturesAtOnce))
    }
    return lengths
  }

  /// Of the lengths above `first`, up to `end`, those at which there is something where a signature would be, in ascending order.
  private func signedLengths(from first: UInt64, to end: UInt64) throws(FeedError) -> [UInt64] {
    let bytes = try files.signatures.bytes(64 * Int(end - first), at: UInt64(SleepHeader.size) + 64 * first)
    var lengths: [UInt64] = []
    for place in 0..<Int(end - first) where bytes[64 * place..<64 * place + 64].contains(where: { $0 != 0 }) {
      lengths.append(first + UInt64(place) + 1)
    }
    return lengths
  }

  /// Cuts off what was begun and never acknowledged: of a writer the blocks, too, and of any feed what is where signatures would be. It
  /// would stay between those of blocks that come, where the next ones are signed together, behind it.
  private func cutTail() throws(FeedError) {
    let end = UInt64(SleepHeader.size) + 64 * length
    let places = try signedPlaces()
    if try files.signatures.byteCount() > end {
      if isWritable, places > length { recovery.cutBlocks += places - length }
      try files.signatures.cut(to: end)
      // Else a power cut could undo it and leave what is written behind it.
      try files.signatures.settle()
    }
    if isWritable, try files.data.byteCount() > byteLength { try files.data.cut(to: byteLength) }
  }
}

/// What is found out about the signatures of a feed when it was shorter, while blocks are looked for that only these prove.
private struct OlderSignatures {
  var lengths: [UInt64]?
  /// By tree node: a length at which it is a signed root, or 0.
  var byRoot: [UInt64: UInt64] = [:]
  var isGood: [UInt64: Bool] = [:]
  var tried = 0
}
