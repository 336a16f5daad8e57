extension Array {
  /// Where the first element is for which something holds, as it does for all behind it; the array's count if for none.
  @inline(__always)
  package func firstPlace(where holds: (Element) -> Bool) -> Int {
    var (low, high) = (0, count)
    while low < high {
      let middle = (low + high) / 2
      if holds(self[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
