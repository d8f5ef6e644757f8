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

/** Reads the requested page of the rows that pass the filters, and renders each item. */
export const pageOf = <A, E, Query extends ListQuery>(
  list: (request: PageRequest, filter: Query) => Effect.Effect<Page<A>, E>,
  query: Query,
  render: (item: A) => Effect.Effect<A>
) =>
  Effect.flatMap(
    list(pageRequest(query), query),
    ({ items, ...rest }) => Effect.map(Effect.forEach(items, render), (items) => ({ items, ...rest }))
  )
