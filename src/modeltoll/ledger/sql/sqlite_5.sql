-- Version 5: why a request was answered without being measured; empty where it was measured.

ALTER TABLE log ADD COLUMN reason TEXT NOT NULL DEFAULT '';
