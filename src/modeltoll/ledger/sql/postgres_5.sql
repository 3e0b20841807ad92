-- Version 5: why a request was answered without being measured; empty where it was measured.

ALTER TABLE modeltoll.log ADD COLUMN reason text NOT NULL DEFAULT '';
