import { defaultLimit, type PageRequest, type Place } from "#schema/resources.ts"

/** The page that a list's parameters ask for. */
export const pageRequest = (query: { readonly limit?: number; readonly cursor?: Place }): PageRequest => ({
  limit: query.limit ?? defaultLimit,
  after: query.cursor
})
