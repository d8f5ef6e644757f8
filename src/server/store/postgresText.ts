/** Makes text of clients storable in PostgreSQL. */

/**
 * Removes NUL and replaces lone surrogates, which PostgreSQL rejects in text and JSON. Otherwise one such text would fail the
 * whole batch that it is written with.
 */
export const postgresText = (text: string): string => text.replaceAll("\0", "").toWellFormed()
