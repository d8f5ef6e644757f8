/** What happens, as a part of the API. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, says, Validation } from "./apiParts.ts"
import { SentEvent } from "./events.ts"
import * as Problem from "./problems.ts"

const lastEventId = Schema.String.check(Schema.isMaxLength(256)).annotate({
  description: "The id of the last event that was seen: go on after it."
})

export class EventsGroup extends HttpApiGroup.make("events").add(
  HttpApiEndpoint.get("follow", "/api/events", {
    query: { lastEventId: Schema.optionalKey(lastEventId) },
    headers: { "last-event-id": Schema.optionalKey(lastEventId) },
    success: HttpApiSchema.StreamSse({ events: SentEvent }),
    error: Problem.TooManyFollowers
  }).annotateMerge(says(
    "read",
    "Follow what happens",
    "Server-sent events (WHATWG HTML, section 9.2), a comment every 15 seconds. All of them are told at every node, those of " +
      "clients of another node up to two seconds later, and of several acknowledgements within that time the last. Where events may be missing there is a `reset`: read the lists anew."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Events" })) {}
