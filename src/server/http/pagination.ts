import { defaultLimit, type Page, type PageRequest, type Place } from "#schema/resources.ts"
import { Effect } from "effect"

interface ListQuery {
  readonly limit?: number
  readonly cursor?: Place
}

/** The page that a list's parameters ask for. */
export const pageRequest = (query: ListQuery): PageRequest => ({
  limit: query.limit ?? defaultLimit,
  after: query.cursor
})

/** That page of a list, with each item as it is to be shown. */
export const pageOf = <A, E>(
  list: (request: PageRequest) => Effect.Effect<Page<A>, E>,
  query: ListQuery,
  shown: (item: A) => Effect.Effect<A>
) =>
  Effect.flatMap(
    list(pageRequest(query)),
    ({ items, ...rest }) => Effect.map(Effect.forEach(items, shown), (items) => ({ items, ...rest }))
  )
