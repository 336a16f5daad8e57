/// Messages as Protocol Buffers, written and read without going through anything in between.
extension Message {
  /// The low four bits of a frame's header.
  var type: UInt8 {
    switch self {
    case .feed: 0
    case .handshake: 1
    case .info: 2
    case .have: 3
    case .unhave: 4
    case .want: 5
    case .unwant: 6
    case .request: 7
    case .cancel: 8
    case .data: 9
    case .extension: 15
    }
  }

  /// Appends a frame: length, header (channel and type), message.
  func appendFrame(channel: UInt64, to output: inout [UInt8]) {
    let header = channel << 4 | UInt64(type)
    var sizer = ProtobufSizer()
    fields(&sizer)
    let size = Varint.size(header) + sizer.size
    let start = output.count
    output.append(contentsOf: repeatElement(0, count: Varint.size(UInt64(size)) + size))
    output.withMutableBytes {
      var writer = ProtobufWriter(UnsafeMutableRawBufferPointer(rebasing: $0[start...]))
      writer.varint(UInt64(size))
      writer.varint(header)
      fields(&writer)
    }
  }

  private func fields(_ sink: inout some ProtobufSink) {
    switch self {
    case .feed(let feed):
      sink.hash(1, feed.discoveryKey)
      sink.bytes(2, feed.nonce)
    case .handshake(let handshake):
      sink.bytes(1, handshake.id)
      sink.bool(2, handshake.live)
      sink.bytes(3, handshake.userData)
      for name in handshake.extensions { sink.bytes(4, Array(name.utf8)) }
      sink.bool(5, handshake.ack)
    case .info(let info):
      sink.bool(1, info.uploading)
      sink.bool(2, info.downloading)
    case .have(let have):
      sink.number(1, have.start)
      sink.number(2, have.length)
      sink.bytes(3, have.bitfield)
    case .unhave(let unhave):
      sink.number(1, unhave.start)
      sink.number(2, unhave.length)
    case .want(let want), .unwant(let want):
      sink.number(1, want.start)
      sink.number(2, want.length)
    case .request(let request):
      sink.number(1, request.index)
      sink.number(2, request.bytes)
      sink.bool(3, request.hash)
      sink.number(4, request.nodes)
    case .cancel(let cancel):
      sink.number(1, cancel.index)
      sink.number(2, cancel.bytes)
      sink.bool(3, cancel.hash)
    case .data(let data):
      sink.number(1, data.index)
      sink.bytes(2, data.value)
      for node in data.proof.nodes { sink.node(3, node) }
      if let signature = data.proof.signature { sink.bytes(4, signature.bytes) }
    case .extension(let message):
      sink.raw(message.id, message.payload)
    }
  }

  /// Reads a frame's contents behind its header.
  ///
  /// - Returns: `nil` for a type that is not known: the reference ignores those too.
  static func decode(type: UInt8, _ body: UnsafeRawBufferPointer) throws(WireError) -> Message? {
    switch type {
    case 0: .feed(try Feed(body))
    case 1: .handshake(try Handshake(body))
    case 2: .info(try Info(body))
    case 3: .have(try Have(body))
    case 4: .unhave(try Unhave(body))
    case 5: .want(try Want(body))
    case 6: .unwant(try Want(body))
    case 7: .request(try Request(body))
    case 8: .cancel(try Cancel(body))
    case 9: .data(try Data(body))
    case 15: .extension(try Extension(body))
    default: nil
    }
  }
}

extension Message.Feed {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    var key: DiscoveryKey?
    var fields = ProtobufReader(body, in: "feed")
    while let field = try fields.next() {
      switch field.number {
      case 1: key = DiscoveryKey(try fields.bytes(field))
      case 2: nonce = Array(try fields.bytes(field))
      default: continue
      }
    }
    guard let key, nonce == nil || nonce?.count == 24 else {
      throw WireError(.malformed, "feed without a discovery key of 32 bytes, or with a nonce that is not 24")
    }
    discoveryKey = key
  }
}

extension Message.Handshake {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    self.init(id: nil, live: nil, ack: nil)
    var fields = ProtobufReader(body, in: "handshake")
    while let field = try fields.next() {
      switch field.number {
      case 1: id = Array(try fields.bytes(field, limit: WireLimits.handshakeBytes))
      case 2: live = try fields.bool(field)
      case 3: userData = Array(try fields.bytes(field, limit: WireLimits.handshakeBytes))
      case 4:
        let name = try fields.bytes(field, limit: WireLimits.extensionNameBytes)
        guard extensions.count < WireLimits.extensions else {
          throw WireError(.tooLarge, "over \(WireLimits.extensions) extensions in the handshake")
        }
        extensions.append(String(decoding: name, as: UTF8.self))
      case 5: ack = try fields.bool(field)
      default: continue
      }
    }
  }
}

extension Message.Info {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    var fields = ProtobufReader(body, in: "info")
    while let field = try fields.next() {
      switch field.number {
      case 1: uploading = try fields.bool(field)
      case 2: downloading = try fields.bool(field)
      default: continue
      }
    }
  }
}

extension Message.Have {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    var start: UInt64?
    var fields = ProtobufReader(body, in: "have")
    while let field = try fields.next() {
      switch field.number {
      case 1: start = try fields.number(field)
      case 2: length = try fields.number(field)
      case 3: bitfield = Array(try fields.bytes(field))
      default: continue
      }
    }
    self.start = try ProtobufReader.required(start, "start", in: "have")
  }
}

extension Message.Unhave {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    (start, length) = try ProtobufReader.range(body, in: "unhave")
  }
}

extension Message.Want {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    (start, length) = try ProtobufReader.range(body, in: "want")
  }
}

extension Message.Request {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    self.init(index: 0, bytes: nil, hash: nil, nodes: nil)
    var index: UInt64?
    var fields = ProtobufReader(body, in: "request")
    while let field = try fields.next() {
      switch field.number {
      case 1: index = try fields.number(field)
      case 2: bytes = try fields.number(field)
      case 3: hash = try fields.bool(field)
      case 4: nodes = try fields.number(field)
      default: continue
      }
    }
    self.index = try ProtobufReader.required(index, "index", in: "request")
  }
}

extension Message.Cancel {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    var index: UInt64?
    var fields = ProtobufReader(body, in: "cancel")
    while let field = try fields.next() {
      switch field.number {
      case 1: index = try fields.number(field)
      case 2: bytes = try fields.number(field)
      case 3: hash = try fields.bool(field)
      default: continue
      }
    }
    self.index = try ProtobufReader.required(index, "index", in: "cancel")
  }
}

extension Message.Data {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    var index: UInt64?
    proof = Proof(nodes: [], signature: nil)
    var fields = ProtobufReader(body, in: "data")
    while let field = try fields.next() {
      switch field.number {
      case 1: index = try fields.number(field)
      case 2: value = Array(try fields.bytes(field))
      case 3:
        guard proof.nodes.count < WireLimits.proofNodes else {
          throw WireError(.tooLarge, "over \(WireLimits.proofNodes) nodes in a proof")
        }
        proof.nodes.append(try Node(protobuf: fields.bytes(field)))
      case 4:
        guard let signature = Signature(try fields.bytes(field)) else {
          throw WireError(.malformed, "a signature that is not 64 bytes")
        }
        proof.signature = signature
      default: continue
      }
    }
    self.index = try ProtobufReader.required(index, "index", in: "data")
  }
}

extension Node {
  fileprivate init(protobuf body: UnsafeRawBufferPointer) throws(WireError) {
    var treeIndex: UInt64?
    var hash: Hash?
    var byteSize: UInt64?
    var fields = ProtobufReader(body, in: "node")
    while let field = try fields.next() {
      switch field.number {
      case 1: treeIndex = try fields.number(field)
      case 2: hash = Hash(try fields.bytes(field))
      case 3: byteSize = try fields.number(field)
      default: continue
      }
    }
    guard let treeIndex, let hash, let byteSize else {
      throw WireError(.malformed, "a node without index, hash of 32 bytes or size")
    }
    guard treeIndex <= 4 * Limits.feedBlocks, byteSize <= Limits.feedBytes else {
      throw WireError(.tooLarge, "node \(treeIndex) over \(byteSize) bytes")
    }
    self.init(treeIndex: treeIndex, hash: hash, byteSize: byteSize)
  }
}

extension Message.Extension {
  fileprivate init(_ body: UnsafeRawBufferPointer) throws(WireError) {
    var reader = RawReader(body)
    guard let id = reader.varint() else {
      throw WireError(.malformed, "an extension message without a number")
    }
    guard reader.rest.count <= WireLimits.extensionBytes else {
      throw WireError(.tooLarge, "an extension message of \(reader.rest.count) bytes")
    }
    self.init(id: id, payload: Array(reader.rest))
  }
}
