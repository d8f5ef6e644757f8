/** Turns the parameters of list endpoints into page requests. */
import { defaultPageLimit, type Page, type PageCursor, type PageRequest } from "#schema/pagination.ts"
import { Effect } from "effect"

interface ListQuery {
  readonly limit?: number
  readonly cursor?: PageCursor
}

/** Page request of a list's query parameters. */
export const pageRequest = (query: ListQuery): PageRequest => ({
  limit: query.limit ?? defaultPageLimit,
  after: query.cursor
})

/** Reads the requested page and renders each item. */
export const pageOf = <A, E>(
  list: (request: PageRequest) => Effect.Effect<Page<A>, E>,
  query: ListQuery,
  render: (item: A) => Effect.Effect<A>
) =>
  Effect.flatMap(
    list(pageRequest(query)),
    ({ items, ...rest }) => Effect.map(Effect.forEach(items, render), (items) => ({ items, ...rest }))
  )
