//! The one table of who may do what.
//!
//! Every call asks [`authorize`] before anything else happens. The table is total: a new action does not
//! compile until its line is written here, and the test below spells the whole table out.

use loadline_model::NodeId;

use super::Identity;

/// What a person is in the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Everything, also people and their tokens.
    Admin,
    /// Nodes and everybody's jobs.
    Operator,
    /// Their own jobs.
    User,
    /// Looks, touches nothing, reads no logs.
    Viewer,
}

impl Role {
    /// All of them, most powerful first.
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::User, Self::Viewer];

    /// The word used in files, tables and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::User => "user",
            Self::Viewer => "viewer",
        }
    }

    /// The role behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }
}

/// Who asks: an identity with what the directory knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person and their role.
    Person {
        /// The name in this fleet.
        name: String,
        /// The role.
        role: Role,
    },
    /// A node.
    Node(NodeId),
}

impl Actor {
    /// The identity in the certificate.
    pub fn identity(&self) -> Identity {
        match self {
            Self::Person { name, .. } => Identity::Person(name.clone()),
            Self::Node(node) => Identity::Node(*node),
        }
    }
}

/// What is asked for. Actions on a job carry the name of its owner, actions of a node the id they speak for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    /// Submit a job, to run as oneself.
    SubmitJob,
    /// See one's own jobs, and others' as far as [`Action::SeeJob`] allows.
    ListJobs,
    /// See a job, follow it, have it explained.
    SeeJob {
        /// Whose it is.
        owner: &'a str,
    },
    /// Read what a job's workers wrote.
    ReadLogs {
        /// Whose it is.
        owner: &'a str,
    },
    /// End a job.
    CancelJob {
        /// Whose it is.
        owner: &'a str,
    },
    /// See nodes and the fleet as a whole.
    SeeFleet,
    /// Ask who one is.
    WhoAmI,
    /// Drain, resume, forget or ban a node.
    OperateNode,
    /// Make, list or revoke tokens that let a node join.
    ManageNodeTokens,
    /// Make, change, remove teams and their quotas.
    ManageTeams,
    /// Make login tokens, add, list, ban people.
    ManagePeople,
    /// Open a node's session or renew its certificate.
    SpeakFor {
        /// For which node.
        node: NodeId,
    },
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The role does not include it.
    #[error("the role `{role}` may not {what}")]
    Role {
        /// The caller's role.
        role: &'static str,
        /// What they asked for.
        what: &'static str,
    },
    /// It belongs to someone else.
    #[error("only {owner} and operators may {what}")]
    NotOwner {
        /// Whose it is.
        owner: String,
        /// What they asked for.
        what: &'static str,
    },
    /// A node may do nothing but speak for itself.
    #[error("a node may not {what}")]
    Node {
        /// What it asked for.
        what: &'static str,
    },
    /// A node spoke for another.
    #[error("a node may speak for itself only")]
    OtherNode,
    /// A person spoke for a node.
    #[error("people have no node session")]
    NotANode,
}

impl Action<'_> {
    /// The action as it ends a sentence.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::SubmitJob => "submit jobs",
            Self::ListJobs => "list jobs",
            Self::SeeJob { .. } => "see this job",
            Self::ReadLogs { .. } => "read this job's logs",
            Self::CancelJob { .. } => "cancel this job",
            Self::SeeFleet => "see the fleet",
            Self::WhoAmI => "ask who they are",
            Self::OperateNode => "operate nodes",
            Self::ManageNodeTokens => "manage node tokens",
            Self::ManageTeams => "manage teams and quotas",
            Self::ManagePeople => "manage people",
            Self::SpeakFor { .. } => "speak for a node",
        }
    }
}

/// Decides. Pure: the answer follows from the arguments alone.
///
/// # Errors
/// The reason of the refusal.
pub fn authorize(actor: &Actor, action: Action<'_>) -> Result<(), Denied> {
    match actor {
        Actor::Node(own) => node(*own, action),
        Actor::Person { name, role } => person(name, *role, action),
    }
}

fn node(own: NodeId, action: Action<'_>) -> Result<(), Denied> {
    match action {
        Action::SpeakFor { node } if node == own => Ok(()),
        Action::SpeakFor { .. } => Err(Denied::OtherNode),
        _ => Err(Denied::Node {
            what: action.phrase(),
        }),
    }
}

fn person(name: &str, role: Role, action: Action<'_>) -> Result<(), Denied> {
    let what = action.phrase();
    let allow = |allowed: bool| {
        if allowed {
            Ok(())
        } else {
            Err(Denied::Role {
                role: role.word(),
                what,
            })
        }
    };
    let operator = matches!(role, Role::Admin | Role::Operator);
    match action {
        Action::ListJobs | Action::SeeFleet | Action::WhoAmI => Ok(()),
        Action::SubmitJob => allow(role != Role::Viewer),
        Action::SeeJob { .. } if role == Role::Viewer => Ok(()),
        Action::ReadLogs { .. } | Action::CancelJob { .. } if role == Role::Viewer => allow(false),
        Action::SeeJob { owner } | Action::ReadLogs { owner } | Action::CancelJob { owner } => {
            if operator || owner == name {
                Ok(())
            } else {
                Err(Denied::NotOwner {
                    owner: owner.to_owned(),
                    what,
                })
            }
        }
        Action::OperateNode | Action::ManageNodeTokens | Action::ManageTeams => allow(operator),
        Action::ManagePeople => allow(role == Role::Admin),
        Action::SpeakFor { .. } => Err(Denied::NotANode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "00000000-0000-0000-0000-00000000000a";
    const OTHER: &str = "00000000-0000-0000-0000-00000000000b";

    fn actions() -> Vec<(&'static str, Action<'static>)> {
        vec![
            ("submit", Action::SubmitJob),
            ("list", Action::ListJobs),
            ("see own", Action::SeeJob { owner: "ada" }),
            ("see other's", Action::SeeJob { owner: "bob" }),
            ("logs own", Action::ReadLogs { owner: "ada" }),
            ("logs other's", Action::ReadLogs { owner: "bob" }),
            ("cancel own", Action::CancelJob { owner: "ada" }),
            ("cancel other's", Action::CancelJob { owner: "bob" }),
            ("see fleet", Action::SeeFleet),
            ("who am i", Action::WhoAmI),
            ("operate node", Action::OperateNode),
            ("node tokens", Action::ManageNodeTokens),
            ("teams", Action::ManageTeams),
            ("people", Action::ManagePeople),
            (
                "speak for itself",
                Action::SpeakFor {
                    node: NODE.parse().unwrap(),
                },
            ),
            (
                "speak for other",
                Action::SpeakFor {
                    node: OTHER.parse().unwrap(),
                },
            ),
        ]
    }

    /// The whole table: admin, operator, user, viewer (all called ada), node.
    const TABLE: [(&str, [bool; 5]); 16] = [
        ("submit", [true, true, true, false, false]),
        ("list", [true, true, true, true, false]),
        ("see own", [true, true, true, true, false]),
        ("see other's", [true, true, false, true, false]),
        ("logs own", [true, true, true, false, false]),
        ("logs other's", [true, true, false, false, false]),
        ("cancel own", [true, true, true, false, false]),
        ("cancel other's", [true, true, false, false, false]),
        ("see fleet", [true, true, true, true, false]),
        ("who am i", [true, true, true, true, false]),
        ("operate node", [true, true, false, false, false]),
        ("node tokens", [true, true, false, false, false]),
        ("teams", [true, true, false, false, false]),
        ("people", [true, false, false, false, false]),
        ("speak for itself", [false, false, false, false, true]),
        ("speak for other", [false, false, false, false, false]),
    ];

    #[test]
    fn the_whole_table() {
        let mut actors: Vec<Actor> = Role::ALL
            .into_iter()
            .map(|role| Actor::Person {
                name: "ada".into(),
                role,
            })
            .collect();
        actors.push(Actor::Node(NODE.parse().unwrap()));
        let actions = actions();
        assert_eq!(actions.len(), TABLE.len());
        for ((label, action), (row, expected)) in actions.iter().zip(TABLE) {
            assert_eq!(*label, row);
            for (actor, allowed) in actors.iter().zip(expected) {
                assert_eq!(authorize(actor, *action).is_ok(), allowed, "{row} by {actor:?}");
            }
        }
    }

    #[test]
    fn refusals_say_who_may() {
        let ada = Actor::Person {
            name: "ada".into(),
            role: Role::User,
        };
        let denied = authorize(&ada, Action::CancelJob { owner: "bob" }).unwrap_err();
        assert_eq!(denied.to_string(), "only bob and operators may cancel this job");
        let denied = authorize(&ada, Action::ManagePeople).unwrap_err();
        assert_eq!(denied.to_string(), "the role `user` may not manage people");
    }

    #[test]
    fn role_words_round_trip() {
        for role in Role::ALL {
            assert_eq!(Role::from_word(role.word()), Some(role));
        }
        assert_eq!(Role::from_word("root"), None);
    }
}
