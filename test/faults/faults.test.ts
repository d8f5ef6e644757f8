/** Tests of three faults with one node. `npm run faults` runs all forty. */
import { describeFaults } from "./describeFaults.ts"

describeFaults("faults with one node", {
  F1: "a restart of PostgreSQL closes no session and loses no write",
  F2: "a crash of PostgreSQL loses no acknowledged write",
  F25: "floods of messages, pings and connections delay no other client"
})
