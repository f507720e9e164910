"""An operation or a case made callable: its inputs drawn, its function bound or compiled."""
