-- An application's own table, whose name is near ours.
CREATE TABLE audit_log (note text);
INSERT INTO audit_log VALUES ('mine');
