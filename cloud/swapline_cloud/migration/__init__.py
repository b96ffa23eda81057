"""Rows that a gateway stored before `swapline cloud apply`: copied to where it would put them today.

The source is the policy that was the default then: `autogen` of an InfluxDB 1.x; in 2.x the bucket that is `raw` now.

1. Nothing is moved or deleted, and nothing that is in its place already is made older: a reading's point is a pure
   function of its frame, so writing it again changes nothing; a row of the books, which may have been derived anew, is
   left out where its place has one.
2. Readings go to `raw` as far as that keeps them. Roll-ups of those are made of what `raw` has then; of older ones,
   which it refuses, of the source, where there is none yet. So an hour that the gateway told half into each is whole.
3. It goes on day by day, and notes in the database (`migrate_state`) up to which day all is done: a run that was
   stopped goes on there. The run after a whole one begins anew, for what the source got meanwhile.
4. The note of a whole run also says how many rows of what is kept for ever the source had: by that `apply` knows
   whether a bucket may begin to forget.
"""
