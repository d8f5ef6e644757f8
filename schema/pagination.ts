/** Pagination of lists in the HTTP API: cursors, limits and pages. */
import { Schema, SchemaGetter } from "effect"

/** Cursor of a list that is sorted by creation time: the last row of the previous page. */
export interface PageCursor {
  /** Microseconds since 1970, the resolution of PostgreSQL's timestamps. */
  readonly micros: number
  readonly id: string
}

const PageCursor = Schema.Struct({ micros: Schema.Int, id: Schema.String })

/** `<micros>.<id>`. JavaScript numbers represent these digits exactly, until the year 2255. No id in a row has a NUL. */
const cursorPattern = /^(-?[1-8]?\d{1,15})\.([^\0]{1,256})$/u

/** A cursor in base64url. */
export const PageCursorFromString: Schema.Codec<PageCursor, string> = Schema.String.annotate({
  description: "Opaque: the `nextCursor` of the previous page."
}).pipe(
  Schema.decodeTo(
    Schema.StringFromBase64Url.check(Schema.isPattern(cursorPattern, { message: "expected a `nextCursor`" }))
  ),
  Schema.decodeTo(PageCursor, {
    decode: SchemaGetter.transform((text: string) => {
      const [, micros, id = ""] = cursorPattern.exec(text) ?? []
      return { micros: Number(micros), id }
    }),
    encode: SchemaGetter.transform(({ micros, id }: PageCursor) => `${micros}.${id}`)
  })
)

/** Items of a page if the request has no `limit`. */
export const defaultPageLimit = 100

/** Query parameter `limit`: `"50"` → 50. */
export const PageLimit = Schema.String.check(Schema.isPattern(/^\d{1,4}$/u, { message: "expected a whole number" }))
  .annotate({
    description: "Page size: 1 to 1000 items. Default: 100."
  }).pipe(
    Schema.decodeTo(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000 })), {
      decode: SchemaGetter.transform(Number),
      encode: SchemaGetter.transform(String)
    })
  )

/** Request for the page after `after`, or for the first page. */
export interface PageRequest {
  readonly limit: number
  readonly after: PageCursor | undefined
}

/** One page of a list, oldest items first. */
export interface Page<A> {
  readonly items: ReadonlyArray<A>
  /** Null on the last page. */
  readonly nextCursor: PageCursor | null
  readonly unreadable?: ReadonlyArray<typeof UnreadableRow.Type>
}

/** Row that exists but cannot be decoded or decrypted. */
export const UnreadableRow = Schema.Struct({
  entityType: Schema.String,
  entityId: Schema.String,
  reason: Schema.String
})

/** Schema of a page with items of this schema. */
export const pageOf = <S extends Schema.Constraint>(item: S) =>
  Schema.Struct({
    items: Schema.Array(item),
    nextCursor: Schema.NullOr(PageCursorFromString),
    unreadable: Schema.optionalKey(Schema.Array(UnreadableRow)).annotate({
      description:
        "Rows of this page that cannot be decoded or decrypted, for example after a write by another application; absent if there are none."
    })
  })
