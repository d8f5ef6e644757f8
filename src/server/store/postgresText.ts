/** Text that clients say, on its way to the rows. */

/** PostgreSQL's text and JSON hold neither NUL nor half a character: one such text would fail the write of all that go out with it. */
export const postgresText = (text: string): string => text.replaceAll("\0", "").toWellFormed()
