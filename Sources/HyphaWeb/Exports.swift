import CSodium
import Hypercore

/// The state of this instance of the module. One thread calls it: a page's worker.
struct Instance {
  var files: [String: [UInt8]] = [:]
  var node: WebNode?
  var response: [UInt8] = []
  /// The request or the answer holds a secret: the memory that they were in is overwritten.
  var isSecret = true
}

// A module's memory belongs to one worker, which calls one export at a time.
nonisolated(unsafe) private var instance = Instance()

/// Memory for a request.
@_expose(wasm, "allocate")
@_cdecl("hypha_allocate")
func allocate(_ count: Int) -> UnsafeMutableRawPointer {
  .allocate(byteCount: max(count, 1), alignment: 8)
}

/// Answers a request, and frees it; one that may hold a secret is overwritten.
///
/// - Parameter request: memory of ``allocate(_:)``.
/// - Returns: the size of the answer: a byte that is 0 where the call did what it should, and its results behind that; else
///   1, and an error's code and sentence.
@_expose(wasm, "call")
@_cdecl("hypha_call")
func call(_ method: UInt32, _ request: UnsafeMutableRawPointer, _ count: Int) -> Int {
  let known = Method(rawValue: method)
  return respond(to: request, count, isSecret: known?.isSecret ?? true) {
    (request, response) throws(WebError) in
    guard let known else { throw WebError("badRequest", "there is no method \(method)") }
    try known.carryOut(&request, &response, &instance)
  }
}

/// Carries out what a request says, and keeps the answer for ``take(_:)``.
package func respond(
  to request: UnsafeMutableRawPointer, _ count: Int, isSecret: Bool = true,
  _ carryOut: (inout RequestReader, inout ResponseWriter) throws(WebError) -> Void
) -> Int {
  let memory = UnsafeMutableRawBufferPointer(start: request, count: count)
  var reader = RequestReader([UInt8](memory))
  if isSecret { SecretBytes.wipe(memory) }
  request.deallocate()
  instance.isSecret = isSecret
  var response = ResponseWriter()
  response.append(byte: 0)
  do throws(WebError) { try carryOut(&reader, &response) } catch {
    response = ResponseWriter()
    response.append(byte: 1)
    response.append(error.code)
    response.append(error.context)
  }
  instance.response = response.bytes
  return instance.response.count
}

/// Copies the last answer to memory of ``allocate(_:)``, and forgets it.
@_expose(wasm, "take")
@_cdecl("hypha_take")
func take(_ memory: UnsafeMutableRawPointer) {
  let isSecret = instance.isSecret
  instance.response.withUnsafeMutableBytes {
    memory.copyMemory(from: $0.baseAddress ?? memory, byteCount: $0.count)
    if isSecret { SecretBytes.wipe($0) }
  }
  instance.response = []
}

/// Frees memory of ``allocate(_:)``, and overwrites it where it may hold a secret.
@_expose(wasm, "release")
@_cdecl("hypha_release")
func release(_ memory: UnsafeMutableRawPointer, _ count: Int) {
  if instance.isSecret { SecretBytes.wipe(UnsafeMutableRawBufferPointer(start: memory, count: count)) }
  memory.deallocate()
}
