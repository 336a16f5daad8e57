import Glibc

/// What a test that an older program never ended may take: with a sanitizer (`scripts/sanitize`) all is several times slower.
package enum Endless {
  package static let minutes = getenv("HYPHA_SANITIZER") == nil ? 5 : 20
}
